"""Redaction: finds personal data and keys in what Langfuse returned, and replaces them before anything is made of it.

    redaction_rules  what an operator chose, and its digest
    detectors     what is looked for: the patterns, and the gate that most texts do not pass
    validation    which candidates are real: check digits, lengths, surroundings
    countries     lengths of account numbers and country codes of telephones
    decoding      escapes of JSON, URLs and HTML, undone with a way back to the places in the text
    matcher       google-re2, and all matches in a text
    pseudonyms    the same replacement for the same value, without the value
    redactor      texts, JSON in texts, values at any depth, ids
    leaving_out   what of an observation is not sent at all
    protection    what the rest of the worker sees of it
    observations  all fields of an observation

Pure: no I/O, no clock. google-re2 is imported only where there are rules.
"""
