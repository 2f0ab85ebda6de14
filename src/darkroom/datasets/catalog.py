"""The datasets by name."""

from darkroom.datasets.folder import Folder
from darkroom.datasets.published import Digits, TorchvisionDataset
from darkroom.datasets.source import DatasetSource

CATALOG: dict[str, DatasetSource] = {
    "digits": Digits("1,797 handwritten digits, gray 8x8; ships with scikit-learn"),
    "mnist": TorchvisionDataset("MNIST", "70,000 handwritten digits, gray 28x28"),
    "fashion-mnist": TorchvisionDataset("FashionMNIST", "70,000 pictures of clothes, gray 28x28"),
    "kmnist": TorchvisionDataset("KMNIST", "70,000 handwritten Japanese characters, gray 28x28"),
    "cifar10": TorchvisionDataset("CIFAR10", "60,000 photographs in 10 classes, color 32x32"),
    "cifar100": TorchvisionDataset("CIFAR100", "60,000 photographs in 100 classes, color 32x32"),
    "folder": Folder("your own images: a directory or an archive, one sub-folder per class"),
}
