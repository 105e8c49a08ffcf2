"""What a model is asked, and how its reply is read: prompts, formats, grammars, no torch."""
