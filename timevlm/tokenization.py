"""The word-level tokenizer of the models that this repository trains.

A small model should spend its few parameters on seeing, not on spelling. So the vocabulary holds
whole words of the training texts, and everything else falls back to bytes: any UTF-8 text
round-trips exactly. Numbers and times are cut so that equal quantities get equal tokens wherever
they stand:

    1234        12 | 34                 two digits at a time, counted from the right
    <1234.5s>   <12 | 34 | .5s>         a time opens and closes with one token, without a space
    <3.0s> - <9.0s>, <12.0s> - <15.0s>  " - " and ", " between times are one token each

The model is BPE without a single merge and with `ignore_merges`: a piece in the vocabulary is one
token, any other piece becomes its bytes. All cutting is done by one regular expression before it.
"""

import re
from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

PAD_TOKEN = "<|pad|>"
BOS_TOKEN = "<|bos|>"
USER_TOKEN = "<|user|>"
ASSISTANT_TOKEN = "<|assistant|>"
END_TOKEN = "<|end|>"
FRAME_TOKEN = "<|frame|>"
SPECIAL_TOKENS = (PAD_TOKEN, BOS_TOKEN, USER_TOKEN, ASSISTANT_TOKEN, END_TOKEN, FRAME_TOKEN)

# Oniguruma syntax. A run of digits is measured once, at its start, and `*+` never backtracks: cost
# stays linear.
_TIMESTAMP_AHEAD = r"(?=<[0-9]+\.[0-9]s>)"
_PIECES = "|".join(
    (
        # opening of a time: an even number of digits follows
        r"<[0-9]{1,2}(?=(?:[0-9]{2})*+\.[0-9]s>)",
        r"(?<=[0-9])\.[0-9]s>",  # end of a time
        rf" - {_TIMESTAMP_AHEAD}",
        rf", {_TIMESTAMP_AHEAD}",
        # a space before a time stands alone, so that the time keeps its tokens
        rf" {_TIMESTAMP_AHEAD}",
        r" ?(?<![0-9])[0-9](?=(?:[0-9]{2})*+(?![0-9]))",  # first digit of an odd run; then pairs
        r" ?[0-9]{2}",
        r" ?\p{L}[\p{L}\p{M}]*",
        r" ?[^\s\p{L}0-9]",
        r"\s+(?!\S)",
        r"\s",
    )
)


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """The tokenizer that knows every word of `texts`, with and without a space before it.

    The result depends on the set of words alone, neither on their order nor on how often they
    occur. Ids: the special tokens, the 256 bytes, the number and time pieces, then the words in
    sorted order.
    """
    splitter = _splitter()
    words: set[str] = set()
    for text in texts:
        for piece, _ in splitter.pre_tokenize_str(text):
            bare = piece.removeprefix(_SPACE)
            words.add(piece)
            if bare and not bare.startswith(_WHITESPACE):
                words.update((bare, _SPACE + bare))
    ordered = [*SPECIAL_TOKENS, *_BYTE_SYMBOLS, *_number_pieces(), *sorted(words)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(ordered))}

    backend = Tokenizer(BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    backend.pre_tokenizer = splitter
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD_TOKEN,
        bos_token=BOS_TOKEN,
        eos_token=END_TOKEN,
        extra_special_tokens=[USER_TOKEN, ASSISTANT_TOKEN, FRAME_TOKEN],
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )


def encode_plain(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of `text` taken literally: a special token spelled out is ordinary characters.

    What a user types must not open a new turn or pretend to be a frame. The text is cut after the
    first character of every spelled-out special token and the parts are encoded one by one;
    decoding gives the text back unchanged.
    """
    special = [token.content for token in tokenizer.added_tokens_decoder.values()]
    # A look-ahead finds overlapping spellings too: cutting one must not leave another whole.
    spelled = re.compile("|".join(f"(?={re.escape(token)})" for token in special))
    cuts = [match.start() + 1 for match in spelled.finditer(text)] if special else []
    parts = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    return [
        token
        for part in parts
        if part
        for token in tokenizer.encode(part, add_special_tokens=False)
    ]


def token_bytes(token: str) -> bytes:
    """The bytes that a vocabulary entry of a byte-level tokenizer stands for.

    Raises KeyError if the entry holds a character outside the byte-level alphabet.
    """
    return bytes(_BYTE_OF_SYMBOL[symbol] for symbol in token)


def _splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _byte_symbols() -> list[str]:
    """The byte-level alphabet, ordered by the byte that each symbol stands for.

    Printable Latin-1 characters stand for themselves; the other bytes, in order, take the symbols
    from U+0100 on.
    """
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    shifted = iter(sorted(symbol for symbol in alphabet if ord(symbol) > 255))
    return [chr(byte) if chr(byte) in alphabet else next(shifted) for byte in range(256)]


def _number_pieces() -> list[str]:
    """Digit groups (alone, after a space, opening a time), ends of times, their separators."""
    digits = [str(digit) for digit in range(10)]
    pairs = [f"{number:02d}" for number in range(100)]
    return [
        *digits,
        *pairs,
        *(_SPACE + group for group in (*digits, *pairs)),
        *(f"<{number}" for number in range(100)),
        *(f".{digit}s>" for digit in digits),
        f"{_SPACE}-{_SPACE}",
        f",{_SPACE}",
    ]


_BYTE_SYMBOLS = _byte_symbols()
_BYTE_OF_SYMBOL = {symbol: byte for byte, symbol in enumerate(_BYTE_SYMBOLS)}
_SPACE = _BYTE_SYMBOLS[ord(" ")]
_WHITESPACE = tuple(_BYTE_SYMBOLS[ord(character)] for character in " \t\n\r\f\v")
