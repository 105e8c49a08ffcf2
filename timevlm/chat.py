"""Conversations about one watched video."""

from typing import TYPE_CHECKING

from timevlm.memory import VideoMemory
from timevlm.results import Answer

if TYPE_CHECKING:
    from timevlm.api import TimeVLM


class ChatSession:
    """Questions about one memory; earlier turns stand before the next question."""

    max_turns = 4  # turns that a question still sees

    def __init__(self, vlm: "TimeVLM", memory: VideoMemory) -> None:
        self.vlm = vlm
        self.memory = memory
        self.history: list[tuple[str, str]] = []

    def send(self, text: str) -> Answer:
        """Answer the next question and remember the turn."""
        answer = self.vlm.ask(self.memory, text, history=self.history[-self.max_turns :])
        self.history.append((text, answer.text))
        return answer
