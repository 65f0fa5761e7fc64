-- +goose Up

-- Where a cabinet stands, in degrees of WGS-84, and whom its riders call.
ALTER TABLE cabinet
  ADD COLUMN latitude  double precision CHECK (latitude BETWEEN -90 AND 90),
  ADD COLUMN longitude double precision CHECK (longitude BETWEEN -180 AND 180),
  ADD COLUMN hotline   text NOT NULL DEFAULT '' CHECK (length(hotline) <= 40),
  ADD CONSTRAINT place_is_whole CHECK ((latitude IS NULL) = (longitude IS NULL));
