-- The table that DugongJS's TypeORM adapter creates for domain events on PostgreSQL: columns, types and keys of its entity, under
-- TypeORM's default naming (the names of its keys, which TypeORM makes of hashes, are left to PostgreSQL).
CREATE TABLE domain_events (
	id uuid NOT NULL PRIMARY KEY,
	origin varchar(255) NOT NULL,
	"aggregateType" varchar(255) NOT NULL,
	type varchar(255) NOT NULL,
	version integer NOT NULL,
	"aggregateId" uuid NOT NULL,
	payload jsonb,
	"sequenceNumber" integer NOT NULL,
	"timestamp" timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
	"tenantId" varchar(255),
	"correlationId" uuid,
	"triggeredByEventId" uuid,
	"triggeredByUserId" uuid,
	metadata jsonb,
	UNIQUE (origin, "aggregateType", "aggregateId", "tenantId", "sequenceNumber")
);
CREATE INDEX ON domain_events ("aggregateId");
