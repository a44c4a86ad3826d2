"""Stop the build unless torch, torchvision and torchaudio are what was asked for."""

import os
import sys


def main() -> None:
    wanted_cuda = os.environ["CUDA_VERSION"]
    import torch

    cuda = torch.version.cuda or "cpu"
    found = {"torch": torch.__version__}
    # An import is the only proof of a pair: a torchvision of another build installs, then fails.
    for name in ("torchvision", "torchaudio"):
        if os.environ.get(f"{name.upper()}_VERSION"):
            found[name] = __import__(name).__version__
    print(", ".join(f"{name} {version}" for name, version in found.items()), f"· CUDA {cuda}")
    if cuda != wanted_cuda:
        tag = "cpu" if wanted_cuda == "cpu" else "cu" + wanted_cuda.replace(".", "")
        sys.exit(
            f"This is torch for {cuda}, and {wanted_cuda} was asked for. Give the address of "
            f"PyTorch's index for it, which ends in /{tag}, or of a mirror of it: "
            f"--build-arg PYTORCH_INDEX_URL=.../{tag}"
            + (
                ""
                if cuda == "cpu"
                else f", or take what was found: --build-arg CUDA_VERSION={cuda}"
            )
        )
    for name, version in found.items():
        asked = os.environ[f"{name.upper()}_VERSION"]
        if version.split("+")[0] != asked.split("+")[0]:
            sys.exit(f"{name} {version} is installed and {asked} was asked for")


if __name__ == "__main__":
    main()
