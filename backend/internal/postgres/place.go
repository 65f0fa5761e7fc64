package postgres

import (
	"context"
	"fmt"

	"batteryswap/protocol"
)

// CabinetPlace is where a cabinet stands, and whom its riders call.
type CabinetPlace struct {
	CabinetID protocol.CabinetID
	// Latitude and Longitude are degrees of WGS-84; nil leaves them as they are.
	Latitude, Longitude *float64
	// Hotline is a phone number as people write it; nil leaves it as it is.
	Hotline *string
}

// PlaceCabinet says where a cabinet stands.
func (s *Store) PlaceCabinet(ctx context.Context, p CabinetPlace) error {
	if p.Hotline != nil && (clean(*p.Hotline) != *p.Hotline || len(*p.Hotline) > maxHotline) {
		return fmt.Errorf("hotline: want a phone number of at most %d characters", maxHotline)
	}
	tag, err := s.pool.Exec(ctx, `UPDATE cabinet SET latitude = coalesce($2, latitude), longitude = coalesce($3, longitude),
		hotline = coalesce($4, hotline) WHERE cabinet_id = $1`, string(p.CabinetID), p.Latitude, p.Longitude, p.Hotline)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("place cabinet %.30s: %w", p.CabinetID, err)
	}
	return nil
}

// maxHotline is the table's bound.
const maxHotline = 40
