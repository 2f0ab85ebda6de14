# `darkroom serve` alone: params.yaml names the model, MLFLOW_TRACKING_URI the registry. docs/serving.md says more.
#
#     docker build --tag darkroom .
#     docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#         --env MLFLOW_TRACKING_URI=http://mlflow.example:5000 --env DARKROOM_API_KEY --publish 127.0.0.1:8000:8000 darkroom
FROM python:3.12-slim
# Read by pip. An index that has torch for CPUs saves some gigabytes where there is no GPU.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /srv/darkroom
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --constraint requirements.lock ".[serve]" \
    && rm -r src \
    && useradd --no-create-home darkroom
COPY params.yaml ./
USER darkroom
# The root may be read-only: what is downloaded for a moment lies in /tmp.
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=90s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["darkroom", "serve"]
CMD ["--host", "0.0.0.0", "--port", "8000"]
