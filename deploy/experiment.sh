#!/bin/sh
# The entry points of MLproject run this: one stage and what it depends on, with settings. `register` runs all stages.
#
#     sh deploy/experiment.sh STAGE [KEY=VALUE ...]
#
# A setting without a value keeps its value in params.yaml. DVC runs what has changed, and records the settings.
set -eu
stage=$1
shift
for setting in "$@"; do
    shift
    case $setting in
        *=) ;;
        *) set -- "$@" --set-param "$setting" ;;
    esac
done
# MLflow's environment has the packages of requirements.lock. Darkroom is not one: a package in a directory has no hash.
command -v darkroom >/dev/null || python -m pip install --quiet --no-deps --no-build-isolation .
# The environment keeps the package as it was then; PYTHONPATH uses the current one.
PYTHONPATH=src exec dvc exp run "$@" "$stage"
