package phone_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/phone"
)

func TestParse(t *testing.T) {
	for _, good := range []string{
		"13800001234", "+86 138 0000 1234", "0086-138-0000-1234", "86 13800001234", "１３８００００１２３４", "（138）0000-1234", "'13800001234", " 138\u00a000001234\u3000",
	} {
		n, err := phone.Parse(good)
		require.NoError(t, err, good)
		require.Equal(t, phone.Number("13800001234"), n, good)
	}
	for _, bad := range []string{
		"", "1380000123", "138000012345", "12800001234", "23800001234", "057112345678", "138O0001234", "1.38E+10", "13800001234;13900001234",
		"+852 6123 4567", string(bytes.Repeat([]byte("1"), 1000)),
	} {
		_, err := phone.Parse(bad)
		require.ErrorIs(t, err, phone.ErrNumber, bad)
		if len(bad) > 5 {
			require.NotContains(t, err.Error(), bad)
		}
	}
}

func TestANumberIsPrintedMasked(t *testing.T) {
	n := phone.Number("13812345678")
	for _, format := range []string{"%s", "%v", "%q"} {
		require.NotContains(t, fmt.Sprintf(format, n), "12345678")
	}
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "phone", n)
	require.Contains(t, b.String(), `"138****5678"`)
	require.Equal(t, "138****5678", n.Mask())
	require.Equal(t, "****", phone.Number("").Mask())
}

func TestVault(t *testing.T) {
	v, err := phone.NewVault(bytes.Repeat([]byte{7}, 32))
	require.NoError(t, err)
	other, err := phone.NewVault(bytes.Repeat([]byte{8}, 32))
	require.NoError(t, err)
	n := phone.Number("13800001234")

	sealed := v.Close("rider-1", n)
	require.NotEqual(t, sealed, v.Close("rider-1", n), "the same number twice looks like two")
	got, err := v.Open("rider-1", sealed)
	require.NoError(t, err)
	require.Equal(t, n, got)
	for name, open := range map[string]func() (phone.Number, error){
		"another rider": func() (phone.Number, error) { return v.Open("rider-2", sealed) },
		"another key":   func() (phone.Number, error) { return other.Open("rider-1", sealed) },
		"cut":           func() (phone.Number, error) { return v.Open("rider-1", sealed[:10]) },
	} {
		_, err := open()
		require.ErrorContains(t, err, "sealed with another key", name)
	}
	require.Equal(t, v.Hash(n), v.Hash("13800001234"))
	require.NotEqual(t, v.Hash(n), other.Hash(n))
	require.NotEqual(t, v.Hash(n), v.Hash("13800001235"))

	code, err := v.OpenCode("m-1", v.CloseCode("m-1", "012345"))
	require.NoError(t, err)
	require.Equal(t, "012345", code)
	_, err = v.OpenCode("m-2", v.CloseCode("m-1", "012345"))
	require.ErrorContains(t, err, "another message")
	_, err = v.Open("m-1", v.CloseCode("m-1", "012345"))
	require.Error(t, err, "a code is no number")
	hash := v.HashCode("a", "1")
	require.Equal(t, hash, v.HashCode("a", "1"))
	for _, not := range [][]byte{v.HashCode("b", "1"), v.HashCode("a", "2"), other.HashCode("a", "1")} {
		require.NotEqual(t, v.HashCode("a", "1"), not)
	}

	_, err = phone.NewVault([]byte("short"))
	require.ErrorContains(t, err, "5 bytes")
}
