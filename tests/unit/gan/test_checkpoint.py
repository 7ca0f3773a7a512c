"""A checkpoint is whole or it is not there."""

import numpy as np
import pytest

from aigc_core.errors import InvalidSpec, Transient
from aigc_core.gan.checkpoint import Progressed, load_checkpoint, save_checkpoint
from aigc_core.storage.memory import MemoryObjectStore


def save(store: MemoryObjectStore, step: int) -> None:
    progressed = Progressed(step=step, seconds=1.0, spec_sha256="s")
    save_checkpoint(progressed, {"a.b": np.full(3, step, np.float32)}, store=store, prefix="t/")


def test_the_newest_checkpoint_comes_back_with_its_arrays() -> None:
    store = MemoryObjectStore()
    for step in (5, 10, 15):
        save(store, step)
    found = load_checkpoint(store=store, prefix="t/", spec_sha256="s")
    assert found is not None
    assert found.progressed.step == 15
    assert (found.arrays["a.b"] == 15).all()
    assert len(list(store.scan("t/checkpoints/"))) == 2


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before() -> None:
    store = MemoryObjectStore()
    save(store, 5)
    save(store, 10)
    newest = max(info.key for info in store.scan("t/checkpoints/"))
    store.put(newest, store.get(newest)[:-1])
    found = load_checkpoint(store=store, prefix="t/", spec_sha256="s")
    assert found is not None
    assert found.progressed.step == 5


def test_without_an_intact_one_the_run_does_not_start_over_in_silence() -> None:
    store = MemoryObjectStore()
    save(store, 5)
    store.delete([info.key for info in store.scan("t/checkpoints/")])
    with pytest.raises(Transient, match="intact"):
        load_checkpoint(store=store, prefix="t/", spec_sha256="s")


def test_another_spec_does_not_go_on_from_it() -> None:
    store = MemoryObjectStore()
    assert load_checkpoint(store=store, prefix="t/", spec_sha256="s") is None
    save(store, 5)
    with pytest.raises(InvalidSpec, match="another spec"):
        load_checkpoint(store=store, prefix="t/", spec_sha256="other")
