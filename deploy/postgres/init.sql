-- A role and a database per service; the passwords are among the secrets.
\i /run/aimass/init.sql
