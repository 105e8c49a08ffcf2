import pytest

from eval.shards import Shard, parse_shard, shard_from_environment, shard_of
from timevlm.errors import InputError

VIDEOS = [f"videos/{number:04}.mp4" for number in range(400)]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_every_video_belongs_to_exactly_one_shard(count: int) -> None:
    shards = [Shard(index=index, count=count) for index in range(count)]
    for video in VIDEOS:
        assert sum(shard.owns(video) for shard in shards) == 1


def test_shards_are_about_equal_and_never_change() -> None:
    sizes = [sum(Shard(index=i, count=4).owns(v) for v in VIDEOS) for i in range(4)]
    assert min(sizes) > 70
    # Part of the format: a result folder may be continued by a later version.
    assert [shard_of(v, 1000) for v in ("a.mp4", "-b.mp4", "c/d.mp4")] == [848, 808, 620]


def test_torchrun_and_accelerate_name_the_shard_in_the_environment() -> None:
    environment = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    shard = shard_from_environment(environment)
    assert (shard.index, shard.count, shard.local_rank, shard.helps) == (5, 8, 1, True)
    assert shard_from_environment({}) == Shard()
    assert not shard_from_environment({"WORLD_SIZE": "1"}).helps


@pytest.mark.parametrize("text", ["2/2", "1", "-1/3", "a/b", "0/0", "1/2/3"])
def test_impossible_shards_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="i from 0 to n-1"):
        parse_shard(text)


def test_a_broken_environment_is_refused() -> None:
    with pytest.raises(InputError, match="WORLD_SIZE"):
        shard_from_environment({"WORLD_SIZE": "many"})


def test_parse_shard() -> None:
    assert parse_shard("1/4") == Shard(index=1, count=4)
    assert str(parse_shard("1/4")) == "1/4"
