"""Try the worker with no account: a recorded Langfuse on one side, a local receiver on the other.

    serving    HTTP on the loopback address, requests kept, answers that can be scripted
    rows       the recorded rows that ship with the package
    rowstore   rows in the order in which Langfuse lists them
    query      the query string of the v2 observations endpoint
    langfuse_server   the endpoints of a Langfuse 4.16.0 server
    receiver   an OTLP traces endpoint that keeps what it was sent
    tree       what was received, as text

The tests use the same two servers, so what the demo shows is what the tests hold.
"""
