"""The procedural video world: one seed makes a timeline of exact events, its pictures, questions and captions."""
