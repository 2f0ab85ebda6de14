"""The fake GPU, for the tests of this directory."""

from tests.unit.fake_gpu import gpu as gpu
