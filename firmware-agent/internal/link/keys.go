package link

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"batteryswap/protocol"
)

// KeyRing holds the keys that speak for the backend: the newest signed list
// that this cabinet has seen.
type KeyRing struct {
	root ed25519.PublicKey
	file string

	mu   sync.Mutex
	list protocol.KeyList
}

// OpenKeyRing takes the list that the cabinet was set up with and, if it is
// newer, the one kept in file, where newer ones go.
func OpenKeyRing(root ed25519.PublicKey, first []byte, file string, log *slog.Logger) (*KeyRing, error) {
	list, err := protocol.OpenKeyList(first, root)
	if err != nil {
		return nil, err
	}
	k := &KeyRing{root: root, file: file, list: list}
	kept, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return k, nil
	}
	if err == nil {
		list, err = protocol.OpenKeyList(kept, root)
	}
	if err != nil {
		log.Error("the kept key list is not used", "event", "key_list", "err", err)
	} else if list.Version > k.list.Version {
		k.list = list
	}
	return k, nil
}

// Version is of the list in force.
func (k *KeyRing) Version() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.list.Version
}

// Lookup is a protocol.KeyLookup.
func (k *KeyRing) Lookup(kid string, t protocol.Type, cabinet protocol.CabinetID) (ed25519.PublicKey, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.list.Lookup(kid, t, cabinet)
}

// Update takes a newer list in: first on disk, then in force. One that is not
// newer changes nothing.
func (k *KeyRing) Update(raw []byte) error {
	list, err := protocol.OpenKeyList(raw, k.root)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if list.Version <= k.list.Version {
		return nil
	}
	if err := replaceFile(k.file, raw); err != nil {
		return fmt.Errorf("keep key list %d: %w", list.Version, err)
	}
	k.list = list
	return nil
}

// replaceFile puts a new content in place of an old one: after a power cut one
// of the two is there, whole.
func replaceFile(path string, content []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
