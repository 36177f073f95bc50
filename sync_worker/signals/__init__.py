"""Turns scores of Langfuse into Kelet's signals. Pure: no I/O, no clock.

model       a signal, and what decides where it belongs
names       which scores are wanted, what an override matches, slugs
mapping     a score as a signal
content     what distinguishes one content of a score from another
evaluation  a score as the `gen_ai.evaluation.result` event of OpenTelemetry's GenAI conventions
"""
