"""Try the worker with no account: a recorded Langfuse on one side, a local receiver on the other.

    serving    HTTP on the loopback address; requests are recorded, responses can be scripted
    rows       the recorded observations that ship with the package
    rowstore   rows of Langfuse's store, in the order in which the API lists them
    scores     scores, and the query string of their endpoint
    query      the query string of the v2 observations endpoint
    langfuse_server   the endpoints of a Langfuse 4.16.0 server
    receiver   endpoints for traces and signals that record what they receive
    tree       the received spans as text

The tests use the same two servers, so the demo shows what the tests check.
"""
