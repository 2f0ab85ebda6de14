#!/bin/sh
# What the entry points of MLproject run: one stage, `register` for all of them, and what it needs, with settings.
#
#     sh deploy/experiment.sh STAGE [KEY=VALUE ...]
#
# A setting without a value stays as params.yaml has it. DVC runs what has changed, and writes down with what.
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
# The environment that MLflow makes holds what requirements.lock pins, by hash, which a package in a directory has not.
command -v darkroom >/dev/null || python -m pip install --quiet --no-deps --no-build-isolation .
# It keeps the package as it was then; PYTHONPATH takes it from here.
PYTHONPATH=src exec dvc exp run "$@" "$stage"
