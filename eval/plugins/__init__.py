"""TimeVLM inside other people's harnesses.

    lmms.py, lmms_model.py   lmms-eval, found through its entry point `lmms_eval.models`
    vlmevalkit.py            VLMEvalKit, registered by hand
    answering.py             what both share: watch once, answer in the harness's form
    wording.py               read question and options out of a harness's prompt

Nothing here needs the harness installed, but `lmms_model` and `vlmevalkit.register`.
"""
