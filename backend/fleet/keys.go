package fleet

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"batteryswap/backend/internal/link"
	"batteryswap/backend/internal/phone"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// The files of a key directory. Private ones are 0600; root.key belongs off line
// once the list is signed: nothing but InitKeys needs it.
const (
	rootKeyFile    = "root.key"
	grantKeyFile   = "grant.key"
	serviceKeyFile = "service.key"
	riderRefFile   = "rider-ref.key"
	rootPublicFile = "root.pub"
	keyListFile    = "keys.json"

	riderRefBytes = 32
	pemType       = "PRIVATE KEY"
)

// Keys speak for the backend.
type Keys struct {
	// Root is the public key that agents trust.
	Root ed25519.PublicKey
	// List is the key list, and Signed the same as the root signed it.
	List   protocol.KeyList
	Signed string

	signing  link.Keys
	riderRef []byte
	seal     *staff.Seal
	vault    *phone.Vault
	sessions []byte
}

// Seal keeps the secrets of staff closed. Its key is derived from that of the
// rider references: no database has either.
func (k Keys) Seal() *staff.Seal { return k.seal }

// Vault keeps the phone numbers of riders; its keys are derived from the same.
func (k Keys) Vault() *phone.Vault { return k.vault }

// Sessions is the key that riders' session tokens are made with; it is derived
// from the same, so that every replica makes the same of a repeated request.
func (k Keys) Sessions() []byte { return k.sessions }

// sealOf derives the seal's key.
func sealOf(riderRef []byte) (*staff.Seal, error) {
	key, err := hkdf.Key(sha256.New, riderRef, nil, "batteryswap staff secrets v1", staff.SealKeyBytes)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return staff.NewSeal(key)
}

// RiderRef is all that a cabinet learns of a rider.
func (k Keys) RiderRef(cabinet protocol.CabinetID, rider swap.RiderID) protocol.RiderRef {
	h := hmac.New(sha256.New, k.riderRef)
	h.Write([]byte(cabinet))
	h.Write([]byte{0})
	h.Write([]byte(rider))
	return protocol.RiderRef(hex.EncodeToString(h.Sum(nil)[:16]))
}

// OpenGrant verifies a grant that a cabinet accepted.
func (k Keys) OpenGrant(cabinet protocol.CabinetID, envelope string) (protocol.Grant, error) {
	return k.openGrant(cabinet, envelope, ed25519.Verify)
}

func (k Keys) openGrant(cabinet protocol.CabinetID, envelope string, verify protocol.Verify) (protocol.Grant, error) {
	var g protocol.Grant
	e, err := protocol.OpenBy([]byte(envelope), k.List.Lookup, verify)
	if err != nil {
		return g, fmt.Errorf("open grant: %w", err)
	}
	if e.CabinetID != cabinet {
		return g, fmt.Errorf("open grant: it is for %s", e.CabinetID)
	}
	return g, protocol.Decode(e, &g)
}

// InitKeys makes all keys and the first signed list. It overwrites nothing.
func InitKeys(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	for _, name := range []string{rootKeyFile, grantKeyFile, serviceKeyFile, riderRefFile, rootPublicFile, keyListFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keys: %s is there already: nothing was changed", filepath.Join(dir, name))
		}
	}
	public := map[string]ed25519.PublicKey{}
	var root ed25519.PrivateKey
	for _, name := range []string{rootKeyFile, grantKeyFile, serviceKeyFile} {
		pub, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			return fmt.Errorf("keys: %w", err)
		}
		if err := writePrivate(filepath.Join(dir, name), key); err != nil {
			return err
		}
		public[name] = pub
		if name == rootKeyFile {
			root = key
		}
	}
	ref := make([]byte, riderRefBytes)
	rand.Read(ref) // never fails
	signed, err := protocol.SealKeyList(root, protocol.KeyList{Version: 1, Keys: []protocol.Key{
		{KeyID: "g1", Use: protocol.UseGrant, PublicKey: public[grantKeyFile]},
		{KeyID: "s1", Use: protocol.UseService, PublicKey: public[serviceKeyFile]},
	}})
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	for name, f := range map[string]struct {
		data string
		mode fs.FileMode
	}{
		riderRefFile:   {base64.StdEncoding.EncodeToString(ref) + "\n", 0o600},
		rootPublicFile: {base64.StdEncoding.EncodeToString(public[rootKeyFile]) + "\n", 0o644},
		keyListFile:    {string(signed) + "\n", 0o644},
	} {
		if err := writeNew(filepath.Join(dir, name), []byte(f.data), f.mode); err != nil {
			return err
		}
	}
	return nil
}

func writePrivate(path string, key ed25519.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	return writeNew(path, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), 0o600)
}

func writeNew(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("keys: write %s: %w", path, err)
	}
	return nil
}

// LoadKeys reads what a server needs and says all that is wrong with it.
func LoadKeys(dir string) (Keys, error) {
	var k Keys
	var errs []error
	note := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	var err error
	if k.Root, err = readRoot(filepath.Join(dir, rootPublicFile)); err != nil {
		note(err)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, keyListFile)); err != nil {
		note(err)
	} else if k.Root != nil {
		k.Signed = strings.TrimRight(string(raw), "\n")
		k.List, err = protocol.OpenKeyList(raw, k.Root)
		if err != nil {
			note(fmt.Errorf("%s: %w", filepath.Join(dir, keyListFile), err))
		}
	}
	k.signing.GrantID, k.signing.Grant, err = k.readSigner(dir, grantKeyFile, protocol.UseGrant)
	note(err)
	k.signing.ServiceID, k.signing.Service, err = k.readSigner(dir, serviceKeyFile, protocol.UseService)
	note(err)
	if k.riderRef, err = readSecret(filepath.Join(dir, riderRefFile)); err == nil {
		k.seal, err = sealOf(k.riderRef)
		note(err)
		k.vault, err = phone.NewVault(k.riderRef)
		note(err)
		k.sessions, err = hkdf.Key(sha256.New, k.riderRef, nil, "batteryswap rider sessions v1", sha256.Size)
	}
	note(err)
	if len(errs) > 0 {
		return Keys{}, fmt.Errorf("keys: %w", errors.Join(errs...))
	}
	return k, nil
}

// readSigner reads a private key and finds its id in the list.
func (k Keys) readSigner(dir, name string, use protocol.KeyUse) (string, ed25519.PrivateKey, error) {
	path := filepath.Join(dir, name)
	b, err := readPrivate(path)
	if err != nil {
		return "", nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != pemType {
		return "", nil, fmt.Errorf("%s: want a private key in PEM (PKCS #8)", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return "", nil, fmt.Errorf("%s: want an Ed25519 key", path)
	}
	for _, listed := range k.List.Keys {
		if listed.Use == use && key.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(listed.PublicKey)) {
			return listed.KeyID, key, nil
		}
	}
	if k.List.Keys == nil {
		return "", key, nil // the list itself is a mistake already
	}
	return "", nil, fmt.Errorf("%s: not in %s for %s: agents would refuse it", path, keyListFile, use)
}

// readPrivate reads a file that nobody else may read.
func readPrivate(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: mode %04o, want 0600: others can read it", path, info.Mode().Perm())
	}
	return os.ReadFile(path)
}

func readSecret(path string) ([]byte, error) {
	b, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	secret, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(secret) != riderRefBytes {
		return nil, fmt.Errorf("%s: want %d bytes in base64", path, riderRefBytes)
	}
	return secret, nil
}

func readRoot(path string) (ed25519.PublicKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	root, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(root) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%s: want an Ed25519 public key in base64", path)
	}
	return root, nil
}
