#!/bin/sh
# Creates the databases; existing ones stay. PostgreSQL's image and `make tracking-server` both run it. Searches have a
# separate user, `optuna`, without access to MLflow's runs and users.
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
