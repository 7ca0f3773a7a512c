"""The promises of `Predictor`, kept by the fake and by the gRPC client in front of a real server."""

from collections.abc import Iterator

import numpy as np
import pytest
from serving_models import LATENT_DIM, NAME

from aigc_core.errors import InvalidSpec, Unavailable
from aigc_core.generation.latents import latents_from_seeds
from aigc_core.generation.predictor import FakePredictor, Predictor
from serving.client import ServingPredictor


@pytest.fixture
def client(target: str) -> Iterator[ServingPredictor]:
    made = ServingPredictor([target])
    yield made
    made.close()


@pytest.fixture(
    params=["fake", pytest.param("onnx", marks=pytest.mark.slow), pytest.param("saved_model", marks=pytest.mark.slow)]
)
def predictor(request: pytest.FixtureRequest) -> Iterator[Predictor]:
    if request.param == "fake":
        yield FakePredictor()
        return
    made = ServingPredictor([request.getfixturevalue("serve")(request.param)])
    yield made
    made.close()


LATENTS = latents_from_seeds(range(5), LATENT_DIM)
CLASSES = np.array([0, 3, 6, 9, 12], np.int32)


def test_every_latent_becomes_one_picture_of_bytes(predictor: Predictor) -> None:
    images = predictor.predict(NAME, 1, LATENTS, labels=CLASSES)

    assert images.dtype == np.uint8
    assert images.shape == (5, 8, 8, 1)


def test_the_same_latents_give_the_same_pictures_again(predictor: Predictor) -> None:
    first = predictor.predict(NAME, 1, LATENTS, labels=CLASSES)

    assert np.array_equal(predictor.predict(NAME, 1, LATENTS, labels=CLASSES), first)


def test_a_picture_does_not_depend_on_its_neighbours_in_the_batch(predictor: Predictor) -> None:
    together = predictor.predict(NAME, 1, LATENTS, labels=CLASSES)

    alone = predictor.predict(NAME, 1, LATENTS[3:4], labels=CLASSES[3:4])

    # Another batch size may take another path through the same sums: one grey level, as the design says.
    assert np.abs(alone[0].astype(int) - together[3].astype(int)).max() <= 1


def test_the_class_changes_the_picture(predictor: Predictor) -> None:
    plain = predictor.predict(NAME, 1, LATENTS, labels=np.zeros(5, np.int32))

    shifted = predictor.predict(NAME, 1, LATENTS, labels=np.full(5, 20, np.int32))

    assert not np.array_equal(plain, shifted)


@pytest.mark.slow
def test_a_version_that_is_not_loaded_is_waited_for(client: ServingPredictor) -> None:
    with pytest.raises(Unavailable, match=f"{NAME} version 9"):
        client.predict(NAME, 9, LATENTS, labels=CLASSES)


@pytest.mark.slow
def test_latents_that_do_not_fit_the_model_are_never_tried_again(client: ServingPredictor) -> None:
    with pytest.raises(InvalidSpec):
        client.predict(NAME, 1, np.ones((2, LATENT_DIM + 1), np.float32), labels=CLASSES[:2])


@pytest.mark.slow
def test_the_client_sees_the_states_of_a_model(client: ServingPredictor) -> None:
    (status,) = client.model_status(NAME)

    assert (status.version, status.state, status.error_code, status.error_message) == (1, "AVAILABLE", 0, "")
    assert client.model_status("nobody") == []
