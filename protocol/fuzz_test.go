package protocol

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzOpen opens anything, and what opens must decode, seal and open again.
func FuzzOpen(f *testing.F) {
	pub, key := testKey(1)
	for _, m := range exampleMessages() {
		raw, err := Seal("k1", key, exampleCabinet, m)
		require.NoError(f, err)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := Open(raw, anyKey("k1", pub))
		if err != nil {
			return
		}
		require.NoError(t, e.CabinetID.Validate())
		require.LessOrEqual(t, len(raw), MaxEnvelope)
	})
}

// FuzzDecode signs anything as every type of message: what decodes is valid and
// says the same when it is sealed again.
func FuzzDecode(f *testing.F) {
	pub, key := testKey(1)
	for _, m := range exampleMessages() {
		body, err := json.Marshal(m)
		require.NoError(f, err)
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var fields map[string]json.RawMessage
		if json.Unmarshal(body, &fields) != nil || fields == nil {
			return
		}
		fields["v"], fields["cabinet_id"] = json.RawMessage("1"), json.RawMessage(`"hb-0007"`)
		for _, like := range exampleMessages() {
			typ := like.MessageType()
			fields["type"] = json.RawMessage(`"` + string(typ) + `"`)
			line, err := json.Marshal(fields)
			require.NoError(t, err)
			e, err := Open(seal("k1", key, typ, exampleCabinet, string(line)), anyKey("k1", pub))
			if err != nil {
				continue // too large, or a header said again in capitals
			}
			m, err := decodeAny(e, like)
			if err != nil {
				continue
			}
			require.NoError(t, m.Validate())
			raw, err := Seal("k1", key, exampleCabinet, m)
			require.NoError(t, err)
			e, err = Open(raw, anyKey("k1", pub))
			require.NoError(t, err)
			again, err := decodeAny(e, like)
			require.NoError(t, err)
			require.Equal(t, mustJSON(t, m), mustJSON(t, again))
		}
	})
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

// FuzzDecodeRecord reads anything as a record: what is one encodes to the same
// bytes.
func FuzzDecodeRecord(f *testing.F) {
	for _, p := range examplePayloads() {
		f.Add(exampleRecord(f, p))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, n, _, err := DecodeRecord(b)
		if err != nil {
			require.Zero(t, n)
			return
		}
		again, err := AppendRecord(nil, r)
		require.NoError(t, err)
		require.Equal(t, b[:n], again)
	})
}

// FuzzUnmarshalPayload reads anything as every payload.
func FuzzUnmarshalPayload(f *testing.F) {
	for _, p := range examplePayloads() {
		b, err := MarshalPayload(p)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, like := range examplePayloads() {
			r := Record{Seq: 1, Type: like.RecordType(), Payload: b}
			p, err := decodePayload(r, like)
			if err != nil {
				continue
			}
			again, err := MarshalPayload(p)
			if err != nil {
				require.Greater(t, len(b), MaxPayload/8, "grew too large: %v", err)
				continue
			}
			r.Payload = again
			same, err := decodePayload(r, like)
			require.NoError(t, err)
			require.Equal(t, mustJSON(t, p), mustJSON(t, same))
		}
	})
}

// FuzzParseTopic parses anything: what is a topic is made of its parts.
func FuzzParseTopic(f *testing.F) {
	for _, ch := range []Channel{UpLog, UpRPC, UpTelemetry, UpWill, Down} {
		f.Add(Topic(exampleCabinet, ch))
	}
	f.Fuzz(func(t *testing.T, topic string) {
		id, ch, err := ParseTopic(topic)
		if err == nil {
			require.Equal(t, topic, Topic(id, ch))
		}
	})
}

// FuzzOpenKeyList opens anything, and anything signed.
func FuzzOpenKeyList(f *testing.F) {
	pub, root := testKey(9)
	raw, err := SealKeyList(root, exampleKeyList())
	require.NoError(f, err)
	f.Add(raw)
	f.Add([]byte(`{"version":1,"keys":[]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, err := OpenKeyList(raw, pub)
		if err == nil {
			return // a seed
		}
		signed := append(append([]byte{}, raw...), "\nroot "...)
		signed = append(signed, base64.RawURLEncoding.EncodeToString(ed25519.Sign(root, append([]byte(keyListDomain), raw...)))...)
		l, err := OpenKeyList(signed, pub)
		if err != nil {
			return
		}
		again, err := SealKeyList(root, l)
		require.NoError(t, err)
		same, err := OpenKeyList(again, pub)
		require.NoError(t, err)
		require.Equal(t, l, same)
	})
}
