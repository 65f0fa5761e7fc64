-- +goose Up

-- An order that is sent twice, by a finger or for an answer that was lost, is one.
ALTER TABLE maintenance_order ADD COLUMN idempotency_key text CHECK (length(idempotency_key) BETWEEN 1 AND 64);
CREATE UNIQUE INDEX one_order_per_key ON maintenance_order (requested_by, idempotency_key) WHERE idempotency_key IS NOT NULL;
