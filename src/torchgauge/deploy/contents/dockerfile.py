"""The Dockerfile inside a package."""

from __future__ import annotations

_READY = "http://127.0.0.1:8000/readyz"
_TEXT = """\
# Serves this package: docker build -t {image} . && docker run -p 8000:8000 {image}
# For a GPU, give an index that has CUDA builds of torch and add --device cuda to the command.
ARG BASE_IMAGE=python:{python}-slim
FROM ${{BASE_IMAGE}}

# pip reads these: where packages come from (a mirror, an index of CPU builds), if not from its own
# configuration. What no index has is in wheels/: torchgauge package --wheel FILE.
ARG PIP_INDEX_URL=
ARG PIP_EXTRA_INDEX_URL=

LABEL org.opencontainers.image.title="{title}" \\
      org.opencontainers.image.description="A model served by torchgauge {version}"

ENV PYTHONUNBUFFERED=1 \\
    PYTHONDONTWRITEBYTECODE=1

# Whatever the base's user is; it may have one with this id already.
USER 0
COPY requirements.lock{wheels} /tmp/install/
RUN pip install --no-cache-dir --disable-pip-version-check \\
        --find-links /tmp/install -r /tmp/install/requirements.lock \\
 && rm -rf /tmp/install \\
 && if ! getent passwd 1000; then useradd --create-home --uid 1000 server; fi

COPY . /package
USER 1000
WORKDIR /package
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \\
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('{ready}', timeout=2)"]
CMD ["torchgauge", "serve", "/package", "--host", "0.0.0.0", "--port", "8000"]
"""


def dockerfile(*, title: str, image: str, python: str, version: str, has_wheels: bool) -> str:
    """Return the text; ``python`` is a release such as ``3.11``."""
    return _TEXT.format(
        title=title.replace('"', "'"),
        image=image,
        python=python,
        ready=_READY,
        version=version,
        wheels=" wheels/*" if has_wheels else "",
    )
