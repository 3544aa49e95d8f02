# Two images from one recipe: `operator` (control plane, no engines) and `runner` (data plane).
#   docker build --target operator -t millstream-operator .
#   docker build --target runner   -t millstream-runner .
# BASE offers Python 3.11 or newer as `python3`, with its venv module; the stages that build and the results share it.
ARG BASE=python:3.11-slim

# ---- the tools that build; no result contains them -------------------------------------------------------------------
FROM ${BASE} AS tools
ARG UV=0.13.9
# System certificates, because a company's package mirror is often signed by the company.
ENV UV_SYSTEM_CERTS=1 UV_LINK_MODE=copy UV_NO_CACHE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/tools && /opt/tools/bin/pip install --quiet --no-cache-dir "uv==${UV}"
ENV PATH=/opt/tools/bin:${PATH}
# Some clients (libpq among them) ask for the user's name and fail where the number has none.
RUN echo 'millstream:x:65532:65532:millstream:/tmp:/usr/sbin/nologin' >> /etc/passwd && \
    echo 'millstream:x:65532:' >> /etc/group
WORKDIR /src

# ---- what each plane depends on; unchanged while the lock is ---------------------------------------------------------
# The lock serves as constraints: what an extra needs is installed in the locked version, its hash checked, and a
# package missing in the lock is an error. The .pth file leads to the project's own code, which is a layer apart: a
# change of code neither rebuilds nor ships the dependencies again.
FROM tools AS operator-venv
COPY pyproject.toml requirements.lock ./
RUN uv venv --quiet --python "$(command -v python3)" /opt/venv && \
    uv pip install --quiet --python /opt/venv/bin/python --require-hashes --constraint requirements.lock \
        --only-binary :all: --requirement pyproject.toml --extra operator && \
    cd /opt/venv/lib/python3*/site-packages && echo /opt/millstream > millstream.pth && \
    python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash .

FROM tools AS runner-venv
COPY pyproject.toml requirements.lock ./
# Arrow's wheel carries headers, tests, a Flight client and every library under three names; linked and loaded is one.
RUN uv venv --quiet --python "$(command -v python3)" /opt/venv && \
    uv pip install --quiet --python /opt/venv/bin/python --require-hashes --constraint requirements.lock \
        --only-binary :all: --requirement pyproject.toml --extra runner --extra sql && \
    cd /opt/venv/lib/python3*/site-packages && echo /opt/millstream > millstream.pth && \
    (cd pyarrow && rm -rf include includes src tests *flight* *.pxd *.pxi *.pyx libarrow_python*.so libarrow_python*.so.*.*.*) && \
    find . -name '*.a' -delete && \
    python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash .

# ---- the project's own code, as a wheel installs it: its metadata hold the entry points of the components ------------
FROM tools AS wheel
ARG HATCHLING=1.27.0
RUN echo "hatchling==${HATCHLING}" > /build-constraints.txt
COPY pyproject.toml LICENSE README.md ./
COPY crds/millstream_api crds/millstream_api
COPY operator/millstream_operator operator/millstream_operator
COPY pipelines/millstream_pipelines pipelines/millstream_pipelines
RUN uv build --quiet --wheel --build-constraint /build-constraints.txt --out-dir /wheels

FROM operator-venv AS operator-code
COPY --from=wheel /wheels /wheels
RUN uv pip install --quiet --python /opt/venv/bin/python --no-deps --target /opt/millstream /wheels/*.whl && \
    rm -rf /opt/millstream/millstream_pipelines && \
    python3 -m compileall -q --invalidation-mode unchecked-hash /opt/millstream

FROM runner-venv AS runner-code
COPY --from=wheel /wheels /wheels
RUN uv pip install --quiet --python /opt/venv/bin/python --no-deps --target /opt/millstream /wheels/*.whl && \
    rm -rf /opt/millstream/millstream_operator && \
    python3 -m compileall -q --invalidation-mode unchecked-hash /opt/millstream

# ---- the results: no RUN, so that nothing of the build's surroundings can slip in ------------------------------------
FROM ${BASE} AS operator
COPY --from=tools /etc/passwd /etc/group /etc/
COPY --from=operator-venv /opt/venv /opt/venv
COPY --from=operator-code /opt/millstream /opt/millstream
ENV PATH=/opt/venv/bin:/opt/millstream/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 65532:65532
ENTRYPOINT ["python", "-m", "millstream_operator"]

FROM ${BASE} AS runner
COPY --from=tools /etc/passwd /etc/group /etc/
COPY --from=runner-venv /opt/venv /opt/venv
COPY --from=runner-code /opt/millstream /opt/millstream
ENV PATH=/opt/venv/bin:/opt/millstream/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 65532:65532
ENTRYPOINT ["python", "-m", "millstream_pipelines"]
