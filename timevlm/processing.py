"""The processor: times, frames, questions and answers as token ids, in one layout.

    <|bos|> <|user|>
    <0.0s> <|frame|> x tokens_per_frame   <1.0s> <|frame|> x tokens_per_frame   ...
    question <|assistant|> answer <|end|> <|user|> next question <|assistant|> ...

The parts come one by one (`prefix_ids`, `video_ids`, `prompt_ids`, `answer_ids`), because a video
is watched before anybody asks; `__call__` joins them for one monolithic pass. Whatever a person or
a model wrote is encoded literally: special tokens enter by their ids alone.
"""

import re
from collections.abc import Iterable, Sequence

import torch
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from timevlm.errors import InputError
from timevlm.tasks.captioning import LINE_SEPARATOR
from timevlm.tasks.grammar import CaptionGrammar, CaptionLimits, SpanGrammar, WordTokens
from timevlm.tasks.grounding import RANGE_SEPARATOR, SPAN_SEPARATOR
from timevlm.tasks.timestamps import parse_timestamp, timestamp_text
from timevlm.tokenization import (
    ASSISTANT_TOKEN,
    BOS_TOKEN,
    END_TOKEN,
    FRAME_TOKEN,
    PAD_TOKEN,
    USER_TOKEN,
    encode_plain,
    token_bytes,
)

# Letters only: a number or a sign is never a word. Single letters mean little either way.
_WORD = re.compile(r"[^\W\d_]{2,}")
_OTHER_SPELLINGS = {"color": "colour", "colors": "colours", "gray": "grey"}


class TimeVLMProcessor(ProcessorMixin):
    """Turns videos, questions and answers into token ids and back.

    `tokens_per_frame` is how many places of the sequence a frame fills; `timestamp_decimals`
    records the form of the times and must be 1. With `even_timestamps` a timestamp of an odd number
    of tokens gets a space behind its first one: dropping every second token then treats all frames
    alike, and drops the space and not the digits of the hundreds.
    Raises InputError for other values, or for a tokenizer without the chat's special tokens.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        # transformers restores only arguments that could be positional, so there is no bare `*`
        tokens_per_frame: int,
        timestamp_decimals: int = 1,
        even_timestamps: bool = False,
    ) -> None:
        super().__init__(tokenizer)
        if tokens_per_frame < 1:
            raise InputError(f"tokens_per_frame is {tokens_per_frame}; it must be at least 1")
        if timestamp_decimals != 1:
            raise InputError(
                f"timestamp_decimals is {timestamp_decimals}; timestamps have 1 decimal here"
            )
        self.tokens_per_frame = tokens_per_frame
        self.timestamp_decimals = timestamp_decimals
        self.even_timestamps = even_timestamps
        self.pad_token_id = self._special_id(PAD_TOKEN)
        self.bos_token_id = self._special_id(BOS_TOKEN)
        self.user_token_id = self._special_id(USER_TOKEN)
        self.assistant_token_id = self._special_id(ASSISTANT_TOKEN)
        self.end_token_id = self._special_id(END_TOKEN)
        self.frame_token_id = self._special_id(FRAME_TOKEN)
        self._space = self._plain(" ") if even_timestamps else []
        if even_timestamps and len(self._space) != 1:
            raise InputError(
                "even_timestamps needs a tokenizer in which a space is one token; leave it off"
            )

    @property
    def model_input_names(self) -> list[str]:
        """The keys that `__call__` returns for videos."""
        return [
            "input_ids",
            "attention_mask",
            "pixel_values_videos",
            "frame_seconds",
            "frame_counts",
        ]

    def timestamp_text(self, seconds: float) -> str:
        """The timestamp of a time, `<12.5s>`. Raises InputError if negative or not finite."""
        return timestamp_text(seconds)

    def parse_timestamp(self, text: str) -> float:
        """Seconds of a timestamp. Raises ValueError for any other text."""
        return parse_timestamp(text)

    def prefix_ids(self) -> list[int]:
        """What stands before the video: begin of sequence, user."""
        return [self.bos_token_id, self.user_token_id]

    def timestamp_ids(self, seconds: Iterable[float]) -> list[list[int]]:
        """Token ids of the timestamp of every time, encoded in one batch, each distinct text once.

        Raises InputError for a time that is negative or not finite.
        """
        texts = [timestamp_text(time) for time in seconds]
        distinct = list(dict.fromkeys(texts))
        if not distinct:
            return []
        # The backend itself: transformers' wrapping triples the time of ten thousand short texts.
        encoded = self.tokenizer.backend_tokenizer.encode_batch(distinct, add_special_tokens=False)
        ids_of_text = {text: item.ids for text, item in zip(distinct, encoded, strict=True)}
        return [ids_of_text[text] for text in texts]

    def frame_ids(self, seconds: float) -> list[int]:
        """One frame: its timestamp, then a place for each of its vision tokens."""
        return self.video_ids([seconds])[0]

    def video_ids(self, seconds: Iterable[float]) -> tuple[list[int], list[int]]:
        """Token ids of a video's frames and, for every id, the index of the frame it belongs to.

        `seconds` are the times of the frames in order: numbers, an array or a tensor. Both lists
        have the same length; a timestamp belongs to the frame after it. Raises InputError for a
        time without a timestamp.
        """
        if isinstance(seconds, torch.Tensor):
            seconds = seconds.tolist()
        pixels = [self.frame_token_id] * self.tokens_per_frame
        ids: list[int] = []
        frame_index: list[int] = []
        for index, stamp in enumerate(self.timestamp_ids(seconds)):
            space = self._space if len(stamp) % 2 else []
            ids += [*stamp[:1], *space, *stamp[1:], *pixels]
            frame_index += [index] * (len(space) + len(stamp) + self.tokens_per_frame)
        return ids, frame_index

    def prompt_ids(self, question: str, history: Sequence[tuple[str, str]] = ()) -> list[int]:
        """What stands after the video: earlier (question, answer) turns, then the question."""
        ids: list[int] = []
        for earlier_question, earlier_answer in history:
            ids += self._plain(earlier_question)
            ids.append(self.assistant_token_id)
            ids += self.answer_ids(earlier_answer)
            ids.append(self.user_token_id)
        return [*ids, *self._plain(question), self.assistant_token_id]

    def answer_ids(self, text: str) -> list[int]:
        """An answer and the end of its turn."""
        return [*self._plain(text), self.end_token_id]

    def num_answer_tokens(self, text: str) -> int:
        """Tokens of an answer's text, or of a beginning of it that ends with a word."""
        return len(self._plain(text))

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """The words of `text` that have to be spelled byte by byte, each once, in their order.

        A model of words has never seen them; one of a large vocabulary has next to none.
        """
        words = dict.fromkeys(_WORD.findall(text))
        spelled = self._spelled(words)
        return tuple(word for word in words if word in spelled)

    def familiar(self, text: str) -> str:
        """`text` with its unknown words in a known case or spelling, where there is one."""
        forms = {word: _other_forms(word) for word in self._spelled(set(_WORD.findall(text)))}
        spelled = self._spelled({form for others in forms.values() for form in others})
        known = {
            word: next((form for form in others if form not in spelled), word)
            for word, others in forms.items()
        }
        return _WORD.sub(lambda match: known.get(match[0], match[0]), text)

    def _spelled(self, words: Iterable[str]) -> set[str]:
        """Those of the words that become bytes inside a sentence."""
        words = list(words)
        # The backend itself, as for timestamps; letters can spell no special token.
        texts = [f" {word}" for word in words]
        encoded = self.tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
        return {word for word, item in zip(words, encoded, strict=True) if _all_bytes(item.tokens)}

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, without the special tokens."""
        return self.tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def span_grammar(self, seconds: Iterable[float], *, max_spans: int) -> SpanGrammar:
        """The grammar of grounding answers about frames at `seconds`, in time order.

        Raises InputError for times without a timestamp, ValueError without times.
        """
        return SpanGrammar(
            self.timestamp_ids(seconds),
            dash=self._separator_ids(RANGE_SEPARATOR),
            comma=self._separator_ids(SPAN_SEPARATOR),
            end_id=self.end_token_id,
            max_spans=max_spans,
        )

    def caption_grammar(
        self, seconds: Iterable[float], *, limits: CaptionLimits | None = None
    ) -> CaptionGrammar:
        """The grammar of captions about frames at `seconds`, in time order.

        Raises InputError for times without a timestamp, ValueError without times.
        """
        (newline_id,) = self._plain(LINE_SEPARATOR)
        return CaptionGrammar(
            self.timestamp_ids(seconds),
            dash=self._separator_ids(RANGE_SEPARATOR),
            newline_id=newline_id,
            end_id=self.end_token_id,
            words=self._word_tokens(),
            limits=limits,
        )

    def __call__(
        self,
        text: str | Sequence[str],
        videos: Sequence[torch.Tensor] | None = None,
        seconds: Sequence[Iterable[float]] | None = None,
        *,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Inputs of one monolithic forward pass over prefix, video and question, batched.

        `text` is a question or a batch of B of them; `videos` holds uint8 tensors (T_b, 3, H, W),
        one per question and all of one H and W; `seconds` the T_b times of each. Returned tensors:

            input_ids, attention_mask  int64 (B, L), padded on the right
            pixel_values_videos        uint8 (sum of T_b, 3, H, W), the frames of all items in a row
            frame_seconds              float64 (sum of T_b,)
            frame_counts               int64 (B,), the T_b

        Without videos only the first two are there. Raises InputError if questions, videos and
        times disagree.
        """
        if return_tensors != "pt":
            raise InputError(f"return_tensors is {return_tensors!r}; supported is 'pt'")
        questions = [text] if isinstance(text, str) else list(text)
        if not questions:
            raise InputError("there is no question: pass at least one text")
        times = _times_per_item(questions, videos, seconds)
        rows = [
            [*self.prefix_ids(), *self.video_ids(item)[0], *self.prompt_ids(question)]
            for question, item in zip(questions, times, strict=True)
        ]
        data = self._pad(rows)
        if videos is not None:
            data["pixel_values_videos"] = torch.cat(list(videos))
            flat = [time for item in times for time in item]
            data["frame_seconds"] = torch.tensor(flat, dtype=torch.float64)
            data["frame_counts"] = torch.tensor([len(item) for item in times])
        return BatchFeature(data)

    def _pad(self, rows: list[list[int]]) -> dict[str, torch.Tensor]:
        longest = max(len(row) for row in rows)
        input_ids = torch.full((len(rows), longest), self.pad_token_id)
        attention_mask = torch.zeros((len(rows), longest), dtype=torch.int64)
        for index, row in enumerate(rows):
            input_ids[index, : len(row)] = torch.tensor(row)
            attention_mask[index, : len(row)] = 1
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def _plain(self, text: str) -> list[int]:
        return encode_plain(self.tokenizer, text)

    def _special_id(self, token: str) -> int:
        token_id = self.tokenizer.get_vocab().get(token)
        if token_id is None:
            raise InputError(
                f"the tokenizer has no token {token!r}: build it with timevlm.tokenization"
            )
        return token_id

    def _separator_ids(self, separator: str) -> list[int]:
        """Ids of a separator as it stands between two timestamps."""
        stamp = timestamp_text(0.0)
        stamp_ids = self._plain(stamp)
        joined = self._plain(stamp + separator + stamp)
        middle = joined[len(stamp_ids) : -len(stamp_ids)]
        if [*stamp_ids, *middle, *stamp_ids] != joined:
            raise InputError(
                f"the tokenizer joins timestamps with {separator!r} around them: "
                "build it with timevlm.tokenization"
            )
        return middle

    def _word_tokens(self) -> WordTokens:
        special = set(self.tokenizer.added_tokens_decoder)
        openers: set[int] = set()
        others: set[int] = set()
        space_id = -1
        for token, token_id in self.tokenizer.get_vocab().items():
            if token_id in special:
                continue
            spelled = token_bytes(token)
            body = spelled.removeprefix(b" ")
            if not body:
                space_id = token_id
            elif not any(byte <= 0x20 or byte in b"<\x7f" for byte in body):
                (others if body == spelled else openers).add(token_id)
        return WordTokens(
            space_id=space_id,
            openers=frozenset(openers),
            others=frozenset(others),
        )


def _other_forms(word: str) -> tuple[str, ...]:
    """What else a word may be known as."""
    lower = word.lower()
    return lower, _OTHER_SPELLINGS.get(lower, lower), lower.capitalize()


def _all_bytes(tokens: Sequence[str]) -> bool:
    try:
        return all(len(token_bytes(token)) == 1 for token in tokens)
    except KeyError:  # no byte-level vocabulary, which has other ways to write any word
        return False


def _times_per_item(
    questions: Sequence[str],
    videos: Sequence[torch.Tensor] | None,
    seconds: Sequence[Iterable[float]] | None,
) -> list[list[float]]:
    """The times of every item's frames, once all counts and shapes agree; empty without videos."""
    if videos is None and seconds is None:
        return [[] for _ in questions]
    num_videos = 0 if videos is None else len(videos)
    num_seconds = 0 if seconds is None else len(seconds)
    if videos is None or seconds is None or num_videos != num_seconds:
        raise InputError(
            f"got {num_videos} videos but {num_seconds} sequences of seconds: pass one per video"
        )
    if num_videos != len(questions):
        raise InputError(
            f"got {num_videos} videos but {len(questions)} questions: pass one video per question"
        )
    times = [[float(time) for time in item] for item in seconds]
    for index, (video, item) in enumerate(zip(videos, times, strict=True)):
        shape = tuple(video.shape)
        if video.dtype != torch.uint8 or video.ndim != 4 or shape[1] != 3:
            raise InputError(
                f"video {index} is {video.dtype} of shape {shape}; expected uint8 (T, 3, H, W)"
            )
        if len(item) != shape[0]:
            raise InputError(
                f"video {index} has {shape[0]} frames but {len(item)} times: pass one per frame"
            )
        if shape[2:] != tuple(videos[0].shape[2:]):
            raise InputError(
                f"video {index} has frames of {shape[2:]}, video 0 of "
                f"{tuple(videos[0].shape[2:])}: resize them to one height and width"
            )
    return times
