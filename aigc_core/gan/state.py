"""Everything that a run changes while it trains, and its way into arrays and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import keras
import numpy as np
from numpy.typing import NDArray

from aigc_core.errors import Transient
from aigc_core.gan.networks import build_discriminator, build_generator
from aigc_core.jobs.specs import TrainingSpec

#: Decay of Adam's second moment. 0.99 forgets the large gradients of the first steps within a hundred; 0.9 to 0.99 is
#: also the range of Huang et al., arXiv 2501.05441.
BETA_2 = 0.99

#: Keras adds epsilon to the root before bias correction; its default of 1e-7 is too large for small penalties.
EPSILON = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """The networks and optimisers of a run. The EMA generator is the one that is shown, evaluated and exported."""

    generator: keras.Model
    discriminator: keras.Model
    ema_generator: keras.Model
    generator_optimizer: keras.optimizers.Optimizer
    discriminator_optimizer: keras.optimizers.Optimizer

    @classmethod
    def initial(cls, spec: TrainingSpec) -> Self:
        """The state before the first step: a function of the spec alone. Optimisers are built, their moments zero."""
        generator, discriminator = build_generator(spec), build_discriminator(spec)
        ema_generator = build_generator(spec, name="ema_generator")
        ema_generator.set_weights(generator.get_weights())
        state = cls(
            generator=generator, discriminator=discriminator, ema_generator=ema_generator,
            generator_optimizer=_adam(spec), discriminator_optimizer=_adam(spec),
        )  # fmt: skip
        state.generator_optimizer.build(generator.trainable_variables)
        state.discriminator_optimizer.build(discriminator.trainable_variables)
        return state

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """A copy of every variable, by owner and position, for example `generator_optimizer/003`."""
        return {name: np.array(variable.numpy()) for name, variable in self._variables().items()}

    def load_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `to_arrays` gave; `Transient` unless names, shapes and dtypes are all the same."""
        variables = self._variables()
        for name in sorted(set(variables) | set(arrays)):
            expected = _kind(variables[name].numpy()) if name in variables else "nothing"
            found = _kind(arrays[name]) if name in arrays else "nothing"
            if expected != found:
                raise Transient(
                    f"checkpoint: {name} is {found}, expected {expected}; it was written by other code: train under a "
                    "new job, or run the code that wrote it"
                )
        for name, variable in variables.items():
            variable.assign(arrays[name])

    def _variables(self) -> dict[str, Any]:
        owners = {name: getattr(self, name) for name in self.__slots__}
        return {f"{name}/{i:03d}": variable for name, owner in owners.items() for i, variable in enumerate(owner.variables)}


def _adam(spec: TrainingSpec) -> keras.optimizers.Adam:
    return keras.optimizers.Adam(spec.learning_rate, beta_1=spec.beta_1, beta_2=BETA_2, epsilon=EPSILON)


def _kind(array: NDArray[Any]) -> str:
    return f"{array.dtype} {array.shape}"
