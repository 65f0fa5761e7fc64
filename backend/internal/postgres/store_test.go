package postgres_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/postgres/pgtest"
)

func TestMigrateTwiceIsOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	require.NoError(t, postgres.Migrate(t.Context(), url))
	require.NoError(t, postgres.Migrate(t.Context(), url))
	s, err := postgres.Open(t.Context(), url, postgres.Options{})
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Ping(context.Background()))
}
