"""The procedural video world: one seed makes exact events, pictures, questions and captions."""
