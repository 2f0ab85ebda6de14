# An image of `darkroom serve`: params.yaml names the model, MLFLOW_TRACKING_URI the registry. See docs/serving.md.
#
#     docker build --tag darkroom .
#     docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#         --env MLFLOW_TRACKING_URI=http://mlflow.example:5000 --env DARKROOM_API_KEY --publish 127.0.0.1:8000:8000 darkroom
# python:3.12-slim for all platforms, as https://github.com/docker-library/repo-info listed it in August 2026.
FROM python:3.12-slim@sha256:229a2c5bfa27522db7815ea81f9bed70af17ccb9de9fc7ad142b1877b5830d36
# Read by pip: a mirror of the index. An index with other files, such as torch's CPU builds, needs its own lock file.
ARG PIP_INDEX_URL
WORKDIR /srv/darkroom
COPY requirements-serve.lock pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --require-hashes --requirement requirements-serve.lock \
    && pip install --no-cache-dir --no-deps --no-build-isolation . \
    && rm -r src \
    && useradd --no-create-home darkroom
COPY params.yaml ./
USER darkroom
# The root may be read-only: temporary downloads go to /tmp.
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=90s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["darkroom", "serve"]
CMD ["--host", "0.0.0.0", "--port", "8000"]
