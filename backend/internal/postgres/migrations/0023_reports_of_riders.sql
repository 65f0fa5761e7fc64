-- +goose Up
-- What one rider has reported today is looked up with each report.
CREATE INDEX fault_report_of_rider ON fault_report (rider_id, reported_at) WHERE rider_id IS NOT NULL;
