"""A soak: real processes of the worker for minutes or hours, against servers that have bad luck, with all told apart.

plan       the draw of a seed: which faults when, which signals, which jumps of clocks
clocks     a clock of its own for each process, that jumps while the servers' stays true
project    a Langfuse project that grows all the time, and the truth about it
servers    the two generations of Langfuse, and a Kelet that writes down each span
processes  starts the worker's commands, sends them signals, reads how they ended
verdict    what arrived against what was there
soak       all of it together, from the first trace to the calm end
"""
