"""Try the worker with no account: a recorded Langfuse on one side, a local receiver on the other.

    serving    HTTP on the loopback address; requests are recorded, responses can be scripted
    rows       the recorded observations that ship with the package
    rowstore   rows of Langfuse's store, in the order in which the API lists them
    query      the query string of the v2 observations endpoint
    langfuse_server   the endpoints of a Langfuse 4.16.0 server
    receiver   an OTLP traces endpoint that records what it receives
    tree       the received spans as text

The tests use the same two servers, so the demo shows what the tests check.
"""
