package link

import (
	"crypto/ed25519"
	"sync/atomic"

	"batteryswap/protocol"
)

// Ring holds the public keys of the devices: a copy of what the database knows.
type Ring struct {
	keys atomic.Pointer[map[protocol.CabinetID][]ed25519.PublicKey]
}

// Replace puts all keys in. The map must not be changed afterwards.
func (r *Ring) Replace(keys map[protocol.CabinetID][]ed25519.PublicKey) { r.keys.Store(&keys) }

// Loaded reports whether keys were ever put in.
func (r *Ring) Loaded() bool { return r.keys.Load() != nil }

// Size is how many cabinets have keys.
func (r *Ring) Size() int {
	if keys := r.keys.Load(); keys != nil {
		return len(*keys)
	}
	return 0
}

// known reports whether the cabinet has any key.
func (r *Ring) known(id protocol.CabinetID) bool {
	keys := r.keys.Load()
	return keys != nil && len((*keys)[id]) > 0
}

// Lookup is a protocol.KeyLookup: a device's key signs everything that its own
// cabinet says, and nothing else.
func (r *Ring) Lookup(kid string, _ protocol.Type, id protocol.CabinetID) (ed25519.PublicKey, bool) {
	keys := r.keys.Load()
	if keys == nil {
		return nil, false
	}
	for _, k := range (*keys)[id] {
		if protocol.KeyID(k) == kid {
			return k, true
		}
	}
	return nil, false
}
