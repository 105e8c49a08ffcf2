import os
import random
import shutil
import sys

import pytest

from eval.metrics.caption_tokens import tokenize
from eval.metrics.captioning import bleu, cider_d, rouge_l
from eval.metrics.meteor import Meteor, MeteorError, meteor_available, meteor_command
from timevlm.errors import InputError

VOCABULARY = "a the man woman dog red blue car runs walks to in park and then slowly stops"


def corpus(num_items=30, seed=0):
    """Captions and 1-4 references each, some blank or one word long, with shared n-grams."""
    draw = random.Random(seed)

    def caption():
        return draw.choices(VOCABULARY.split(" "), k=draw.choice([1, 2, 5, 9, 14]))

    references = [[caption() for _ in range(draw.randint(1, 4))] for _ in range(num_items)]
    hypotheses = [
        draw.choice(refs)[: draw.randint(1, 12)] + caption()[:3]
        if draw.random() < 0.7
        else caption()
        for refs in references
    ]
    return hypotheses, references


def as_coco(hypotheses, references):
    results = {i: [" ".join(words)] for i, words in enumerate(hypotheses)}
    truths = {i: [" ".join(ref) for ref in refs] for i, refs in enumerate(references)}
    return truths, results


@pytest.mark.parametrize("seed", range(5))
def test_parity_with_the_coco_package(seed):
    pytest.importorskip("pycocoevalcap", reason="pip install pycocoevalcap")
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    hypotheses, references = corpus(seed=seed)
    truths, results = as_coco(hypotheses, references)
    theirs, each = Cider().compute_score(truths, results)
    ours = cider_d(hypotheses, references)
    assert ours.corpus == pytest.approx(theirs, abs=1e-12)
    assert ours.each == pytest.approx(each.tolist(), abs=1e-12)
    theirs, each = Rouge().compute_score(truths, results)
    ours = rouge_l(hypotheses, references)
    assert ours.corpus == pytest.approx(theirs, abs=1e-12)
    assert ours.each == pytest.approx(each.tolist(), abs=1e-12)
    scorer = BleuScorer(n=4)
    for index in truths:
        scorer += (results[index][0], truths[index])
    theirs, each = scorer.compute_score(option="closest")
    for n in range(1, 5):
        ours = bleu(hypotheses, references, max_n=n)
        assert ours.corpus == pytest.approx(theirs[n - 1], abs=1e-12)
        assert ours.each == pytest.approx(each[n - 1], abs=1e-12)


def test_scores_of_a_fixed_corpus():
    """Printed by pycocoevalcap 1.2 for the same captions, for those who do not have it."""
    hypotheses, references = corpus()
    assert cider_d(hypotheses, references).corpus == pytest.approx(1.4334057714759076, abs=1e-9)
    assert bleu(hypotheses, references).corpus == pytest.approx(0.4775278589161072, abs=1e-9)
    assert rouge_l(hypotheses, references).corpus == pytest.approx(0.5263083824527608, abs=1e-9)


def test_cider_of_tiny_sets():
    first, second = tokenize("A man throws a red ball."), tokenize("Two dogs sleep here.")
    assert cider_d([first], [[first]]).corpus == 0.0
    assert cider_d([first, second], [[first], [second]]).corpus == pytest.approx(10.0)
    short = second[:3]  # without any 4-gram a quarter of its 10 points is out of reach
    assert cider_d([first, short], [[first], [short]]).each == pytest.approx((10.0, 7.5))


def test_perfect_and_hopeless_captions():
    words, other = tokenize("The cat sits on the mat."), tokenize("Nothing here is alike.")
    for score in (bleu, rouge_l):
        assert score([words], [[words]]).corpus == pytest.approx(1.0)
        assert score([other], [[words]]).corpus == pytest.approx(0.0, abs=1e-3)
        assert score([[]], [[words]]).corpus == 0.0
        assert score([[]], [[[]]]).corpus == pytest.approx(0.0, abs=1e-3)
    assert cider_d([[], words], [[words], [other]]).corpus == 0.0


def test_rouge_by_hand():
    # LCS "the cat mat" = 3; P = 3/4, R = 3/6, F with beta 1.2
    found = rouge_l([tokenize("the cat mat here")], [[tokenize("the cat sits on the mat")]])
    assert found.corpus == pytest.approx(2.44 * 0.75 * 0.5 / (0.5 + 1.44 * 0.75))


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(InputError, match="no captions"):
        bleu([], [])
    with pytest.raises(InputError, match="got 1 captions and references for 2"):
        rouge_l([["a"]], [[["a"]], [["b"]]])
    with pytest.raises(InputError, match="no reference"):
        cider_d([["a"]], [[]])
    with pytest.raises(InputError, match="split them with tokenize"):
        cider_d(["a dog"], [["a dog"]])


# What Stanford's tokenizer (CoreNLP 3.4.1, -preserveLines -lowerCase) gives once the usual
# punctuation is dropped.
TREEBANK = {
    "A man's dog runs, don't stop!": "a man 's dog runs do n't stop",
    "The T-shirt (red) costs $5.50 & 20%.": "the t-shirt -lrb- red -rrb- costs $ 5.50 & 20 %",
    "At 12:30 add 1/2 cup of oil; it's ready...": "at 12:30 add 1/2 cup of oil it 's ready",
    "He said \"go\" -- and 'left'": "he said go and left",
    "can't won't I'm they'll we've you'd": "ca n't wo n't i 'm they 'll we 've you 'd",
    "Mr. Smith went to the U.S. today.": "mr. smith went to the u.s. today",
    "salt/pepper e.g. basil, 1,000 g": "salt/pepper e.g. basil 1,000 g",
    "cannot gonna wanna gimme": "can not gon na wan na gim me",
    "semi-circle #5 @home a_b 5pm 10x": "semi-circle # 5 @home a_b 5pm 10x",
    "Caf\u00e9 \u2013 good \u201cyes\u201d it\u2019s": "caf\u00e9 good yes it 's",
    "dogs' toys [x] {y} a+b=c": "dogs toys -lsb- x -rsb- -lcb- y -rcb- a + b = c",
    "end. Start again? Yes.": "end start again yes",
    " 3-4 minutes ... ok": "3-4 minutes ok",
    "jack o'lantern at 50\u00b0": "jack o'lantern at 50 \u00b0",
}


@pytest.mark.parametrize("caption", TREEBANK)
def test_words_of_a_caption(caption):
    assert tokenize(caption) == TREEBANK[caption].split()


@pytest.mark.slow
def test_the_table_of_words_is_what_the_java_tokenizer_prints():
    module = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer")
    if shutil.which("java") is None:
        pytest.skip("no java on the PATH")
    items = {i: [{"caption": caption}] for i, caption in enumerate(TREEBANK)}
    found = module.PTBTokenizer().tokenize(items)
    assert [found[i][0].split() for i in items] == [line.split() for line in TREEBANK.values()]


def test_blank_captions_have_no_words():
    assert tokenize("") == tokenize(" \n ... ") == []


FAKE = (
    "import sys\nfor line in sys.stdin:\n    print('1 2' if line[0] == 'S' else '{}', flush=True)"
)


def fake_meteor(answer, read_seconds=20.0):
    return Meteor([sys.executable, "-c", FAKE.format(answer)], read_seconds=read_seconds)


def test_meteor_speaks_the_protocol_of_the_program():
    program = (
        "import sys\n"
        "for line in sys.stdin:\n"
        "    parts = line.strip().split(' ||| ')\n"
        "    if parts[0] == 'SCORE': print(len(parts) - 2, len(parts[-1].split()), flush=True)\n"
        "    else: print(*('0.' + p.split()[1] for p in parts[1:]), '0.5', sep='\\n', flush=True)\n"
    )
    with Meteor([sys.executable, "-c", program], read_seconds=20.0) as meteor:
        found = meteor([["a", "||| b\n"], [], ["c"]], [[["x"], ["y"]], [["z"]], [["z"]]])
        assert found.each == (0.2, 0.0, 0.1)
        assert found.corpus == 0.5
        assert meteor([[]], [[["x"]]]).corpus == 0.0
        with pytest.raises(InputError, match="align them"):
            meteor([["a"]], [])


def test_meteor_that_prints_a_comma_stops_or_sleeps_is_an_error():
    with fake_meteor("0,5") as meteor, pytest.raises(MeteorError, match="printed '0,5'"):
        meteor([["a"]], [[["a"]]])
    gone = Meteor([sys.executable, "-c", "pass"], read_seconds=20.0)
    with gone as meteor, pytest.raises(MeteorError, match="METEOR stopped"):
        meteor([["a"]], [[["a"]]])
    with pytest.raises(MeteorError, match="cannot be started"):
        Meteor(["no-such-java"])
    asleep = Meteor([sys.executable, "-c", "import time; time.sleep(60)"], read_seconds=0.2)
    with asleep as meteor, pytest.raises(MeteorError, match=r"silent for 0\.2 s"):
        meteor([["a"]], [[["a"]]])


def test_closing_a_meteor_that_never_read_its_lines_is_quiet():
    meteor = Meteor([sys.executable, "-c", "pass"])
    meteor._process.wait()
    meteor._process.stdin.write("a line that nobody reads")  # stays in the buffer until it closes
    meteor.close()
    assert meteor._process.stdin.closed


def test_what_meteor_lacks_is_named(monkeypatch):
    monkeypatch.setattr("eval.metrics.meteor.PACKAGE", "no_such_package")
    with pytest.raises(MeteorError, match=r'pip install "timevlm\[meteor\]"'):
        meteor_command()
    assert not meteor_available()


@pytest.mark.slow
@pytest.mark.skipif(
    "TIMEVLM_TEST_METEOR" not in os.environ or not meteor_available(),
    reason="starts Java twice, a minute on a busy machine: set TIMEVLM_TEST_METEOR=1 to run it",
)
def test_meteor_equals_the_coco_wrapper():
    from pycocoevalcap.meteor.meteor import Meteor as CocoMeteor

    hypotheses, references = corpus(num_items=8)
    truths, results = as_coco(hypotheses, references)
    theirs, each = CocoMeteor().compute_score(truths, results)
    with Meteor() as meteor:
        ours = meteor(hypotheses, references)
    assert ours.corpus == theirs
    assert list(ours.each) == each
