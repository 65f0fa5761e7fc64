package config

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"batteryswap/protocol"
)

// Identity is what the files that a configuration names hold.
type Identity struct {
	DeviceKey ed25519.PrivateKey
	Root      ed25519.PublicKey
	// KeyList is the signed list, verified.
	KeyList []byte
}

// maxKeyFile bounds a file with a key, a certificate or a key list, in bytes.
const maxKeyFile = 64 << 10

// ReadFiles reads and checks the files that the configuration names. The error
// holds every mistake.
func (c Config) ReadFiles() (Identity, error) {
	var id Identity
	var found Mistakes
	expect := func(field string, err error) {
		if err != nil {
			found = append(found, Mistake{Field: field, Text: err.Error()})
		}
	}
	var err error
	id.Root, err = c.Root()
	if err != nil {
		return Identity{}, err
	}
	id.DeviceKey, err = readDeviceKey(c.DeviceKeyFile)
	expect("device_key_file", err)
	id.KeyList, err = readBounded(c.KeyListFile)
	if err == nil {
		_, err = protocol.OpenKeyList(id.KeyList, id.Root)
	}
	expect("key_list_file", err)
	if c.MQTT.CAFile != "" {
		expect("mqtt.ca_file", checkCA(c.MQTT.CAFile))
		expect("mqtt.key_file", checkSecret(c.MQTT.KeyFile))
		_, err := tls.LoadX509KeyPair(c.MQTT.CertFile, c.MQTT.KeyFile)
		expect("mqtt.cert_file", err)
	}
	if len(found) > 0 {
		return Identity{}, found
	}
	return id, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(b) > maxKeyFile {
		return nil, fmt.Errorf("%s: want at most %d bytes", path, maxKeyFile)
	}
	return b, nil
}

// checkSecret demands that nobody but the owner can read a file.
func checkSecret(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has the mode %04o: want 0600, so that only the agent reads it", path, mode)
	}
	return nil
}

func checkCA(path string) error {
	b, err := readBounded(path)
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(b) {
		err = fmt.Errorf("%s: want certificates in PEM", path)
	}
	return err
}

func readDeviceKey(path string) (ed25519.PrivateKey, error) {
	if err := checkSecret(path); err != nil {
		return nil, err
	}
	b, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s: want a PKCS#8 private key in PEM, as keygen makes it", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%s: want an Ed25519 key in PKCS#8, as keygen makes it", path)
	}
	return key, nil
}

// GenerateDeviceKey makes a key and writes it to a new file, mode 0600. It
// never overwrites.
func GenerateDeviceKey(path string) (ed25519.PublicKey, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a device key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make a device key: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write the device key: %w", err)
	}
	_, err = f.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("write the device key: %w", err)
	}
	return pub, nil
}
