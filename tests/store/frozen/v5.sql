-- A database of version 5, as it was written then. Never edited.
BEGIN TRANSACTION;
CREATE TABLE account (
            username TEXT PRIMARY KEY NOT NULL,
            password_hash TEXT NOT NULL,
            roles TEXT NOT NULL, -- a JSON list
            created REAL NOT NULL
        ) WITHOUT ROWID;
INSERT INTO "account" VALUES('alice','$hash','["admin"]',5.0);
INSERT INTO "account" VALUES('山田','$other','[]',6.5);
CREATE TABLE clock (
    one INTEGER PRIMARY KEY CHECK (one = 1), -- the only row
    steady REAL NOT NULL,
    wall REAL NOT NULL,
    elapsed REAL NOT NULL,
    boot TEXT NOT NULL
);
INSERT INTO "clock" VALUES(1,40.0,1000.0,5.0,'ab');
CREATE TABLE held (
            position INTEGER PRIMARY KEY NOT NULL,
            holder TEXT NOT NULL,
            sender TEXT NOT NULL,
            released INTEGER NOT NULL DEFAULT 0,
            id TEXT NOT NULL UNIQUE,
            created REAL NOT NULL,
            size INTEGER NOT NULL,
            head BLOB NOT NULL, -- JSON
            data BLOB NOT NULL
        );
INSERT INTO "held" VALUES(2,'alice','server:s.example',0,'h-2',50.0,2,'{"type":"text","message_id":"m","user":null,"server":"s.example","verified":true,"hops":1,"guard":"guard"}',X'7B7D');
CREATE TABLE last_stop (clean INTEGER NOT NULL);
INSERT INTO "last_stop" VALUES(1);
CREATE TABLE letter (
            position INTEGER PRIMARY KEY NOT NULL,
            username TEXT NOT NULL,
            delivery_id TEXT NOT NULL,
            expires REAL NOT NULL,
            size INTEGER NOT NULL,
            type TEXT NOT NULL,
            data BLOB NOT NULL
        );
INSERT INTO "letter" VALUES(3,'alice','d-3',5000.0,2,'text',X'7B7D');
INSERT INTO "letter" VALUES(7,'alice','d-7',9000.0,4,'text',X'6E756C6C');
CREATE TABLE mailbox (
            username TEXT PRIMARY KEY NOT NULL,
            messages INTEGER NOT NULL,
            bytes INTEGER NOT NULL
        ) WITHOUT ROWID;
INSERT INTO "mailbox" VALUES('alice',2,6);
CREATE TABLE once (
            key BLOB PRIMARY KEY NOT NULL,
            created REAL NOT NULL,
            digest BLOB NOT NULL,
            report BLOB NOT NULL
        ) WITHOUT ROWID;
INSERT INTO "once" VALUES(X'000102030405060708090A0B0C0D0E0F',12.0,X'0F0E0D0C0B0A09080706050403020100',X'7265706F7274');
CREATE TABLE outgoing (
            position INTEGER PRIMARY KEY NOT NULL,
            destination TEXT NOT NULL,
            message_id TEXT NOT NULL,
            created REAL NOT NULL,
            dead INTEGER NOT NULL DEFAULT 0,
            tries INTEGER NOT NULL DEFAULT 0,
            next_try REAL NOT NULL DEFAULT 0,
            last_error TEXT NOT NULL DEFAULT '',
            hops INTEGER NOT NULL,
            size INTEGER NOT NULL,
            trace TEXT NOT NULL,
            type TEXT NOT NULL,
            data BLOB NOT NULL
        );
INSERT INTO "outgoing" VALUES(4,'host:1','m-4',10.0,0,2,30.5,'serverUnreachable: gone',1,2,'','text',X'7B7D');
INSERT INTO "outgoing" VALUES(9,'host:1','m-9',11.0,1,1,0.0,'serverRefused: no',0,4,'00-aa-bb-01','text',X'6E756C6C');
CREATE TABLE position (name TEXT PRIMARY KEY NOT NULL, last INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "position" VALUES('held',2);
INSERT INTO "position" VALUES('letter',7);
INSERT INTO "position" VALUES('outgoing',9);
CREATE TABLE token (
            token_hash BLOB PRIMARY KEY NOT NULL,
            username TEXT NOT NULL REFERENCES account ON DELETE CASCADE,
            expires REAL NOT NULL
        , number INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
INSERT INTO "token" VALUES(X'00FF','alice',100.0,1);
INSERT INTO "token" VALUES(X'0101','山田',999.0,3);
INSERT INTO "token" VALUES(X'0202','山田',998.0,2);
INSERT INTO "token" VALUES(X'0303','山田',997.0,1);
CREATE TABLE trust (
            holder TEXT NOT NULL,
            sender TEXT NOT NULL,
            created REAL NOT NULL,
            PRIMARY KEY (holder, sender)
        ) WITHOUT ROWID;
INSERT INTO "trust" VALUES('','server:k.example',40.0);
CREATE INDEX token_by_expires ON token (expires);
CREATE INDEX token_by_username ON token (username, number);
CREATE UNIQUE INDEX letter_by_delivery_id ON letter (delivery_id, username);
CREATE INDEX letter_by_username ON letter (username, position);
CREATE INDEX letter_by_expires ON letter (expires);
CREATE UNIQUE INDEX outgoing_by_message_id ON outgoing (destination, message_id);
CREATE INDEX outgoing_by_destination ON outgoing (destination, dead, position, created, size);
CREATE INDEX outgoing_by_created ON outgoing (created) WHERE dead = 0;
CREATE INDEX outgoing_dead ON outgoing (position) WHERE dead = 1;
CREATE INDEX once_by_created ON once (created);
CREATE INDEX held_by_holder ON held (holder, released, sender, position, size);
CREATE INDEX held_released ON held (position) WHERE released = 1;
CREATE INDEX held_by_created ON held (created) WHERE released = 0;
COMMIT;
PRAGMA user_version = 5;
