-- A database of version 1, as it was written then. Never edited.
BEGIN TRANSACTION;
CREATE TABLE account (
            username TEXT PRIMARY KEY NOT NULL,
            password_hash TEXT NOT NULL,
            roles TEXT NOT NULL, -- a JSON list
            created REAL NOT NULL
        ) WITHOUT ROWID;
INSERT INTO "account" VALUES('alice','$hash','["admin"]',5.0);
INSERT INTO "account" VALUES('山田','$other','[]',6.5);
CREATE TABLE token (
            token_hash BLOB PRIMARY KEY NOT NULL,
            username TEXT NOT NULL REFERENCES account ON DELETE CASCADE,
            expires REAL NOT NULL
        ) WITHOUT ROWID;
INSERT INTO "token" VALUES(X'00FF','alice',100.0);
INSERT INTO "token" VALUES(X'0101','山田',999.0);
INSERT INTO "token" VALUES(X'0202','山田',998.0);
INSERT INTO "token" VALUES(X'0303','山田',997.0);
CREATE INDEX token_by_username ON token (username);
CREATE INDEX token_by_expires ON token (expires);
COMMIT;
PRAGMA user_version = 1;
