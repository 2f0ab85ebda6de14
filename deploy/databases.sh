#!/bin/sh
# Makes the databases, run by PostgreSQL's image as by `make tracking-server`; what is there already stays. Whoever searches has
# a user of their own, `optuna`, who does not get at MLflow's runs and users.
set -eu
psql --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --set=password="$OPTUNA_PASSWORD" \
    --username="$POSTGRES_USER" --dbname=postgres <<'SQL'
SELECT 'CREATE DATABASE ' || name FROM (VALUES ('mlflow'), ('mlflow_auth'), ('optuna')) AS wanted (name)
WHERE name NOT IN (SELECT datname FROM pg_database) \gexec
SELECT 'CREATE ROLE optuna LOGIN' WHERE 'optuna' NOT IN (SELECT rolname FROM pg_roles) \gexec
ALTER ROLE optuna PASSWORD :'password';
ALTER DATABASE optuna OWNER TO optuna;
REVOKE CONNECT ON DATABASE mlflow, mlflow_auth, postgres FROM PUBLIC;
SQL
