#!/usr/bin/env bash
# Runs once, in a database that has just been made: the login that the server works with. What it may do, the server sees
# to at its start, as the owner of the tables.
set -euo pipefail
psql --set ON_ERROR_STOP=1 --set password="$(cat /run/secrets/database_app_password)" \
  --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE beacon_app LOGIN PASSWORD :'password';
SQL
