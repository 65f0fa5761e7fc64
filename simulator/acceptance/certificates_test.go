package acceptance

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// authority signs the certificates of a broker and its clients.
type authority struct {
	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  ed25519.PrivateKey
}

func newAuthority(t testing.TB, dir string) *authority {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	a := &authority{t: t, dir: dir, key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, pub, key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.write("ca.crt", "CERTIFICATE", der)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) write(name, kind string, der []byte) {
	a.t.Helper()
	require.NoError(a.t, os.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// issue makes a certificate of a name, and its key, as files NAME.crt and
// NAME.key.
func (a *authority) issue(name string) {
	a.t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(a.t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(a.t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, a.cert, pub, a.key)
	require.NoError(a.t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(a.t, err)
	a.write(name+".crt", "CERTIFICATE", der)
	a.write(name+".key", "PRIVATE KEY", pkcs8)
}

// brokerConfig is the configuration that is shipped for production, with this
// authority's files in place of its paths and so many backends in its list of
// who may speak where.
func (a *authority) brokerConfig(backends int) string {
	a.t.Helper()
	root, err := moduleRoot()
	require.NoError(a.t, err)
	packaging := filepath.Join(root, "backend", "packaging")
	config, err := os.ReadFile(filepath.Join(packaging, "mosquitto.conf"))
	require.NoError(a.t, err)
	list, err := os.ReadFile(filepath.Join(packaging, "mosquitto.acl"))
	require.NoError(a.t, err)
	acl := string(list)
	for n := 2; n <= backends; n++ {
		first, _, ok := strings.Cut(string(list), "# Each cabinet")
		require.True(a.t, ok)
		acl = strings.ReplaceAll(first, "backend-1", fmt.Sprintf("backend-%d", n)) + acl
	}
	require.NoError(a.t, os.WriteFile(a.path("mosquitto.acl"), []byte(acl), 0o600))
	a.issue("broker")
	for n := 1; n <= backends; n++ {
		a.issue(fmt.Sprintf("backend-%d", n))
		a.issue(fmt.Sprintf("backend-%d-telemetry", n))
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: a.cert.NotBefore, NextUpdate: a.cert.NotAfter,
	}, a.cert, a.key)
	require.NoError(a.t, err)
	a.write("ca.crl", "X509 CRL", der)
	require.Contains(a.t, string(config), "/etc/batteryswap/mqtt/")
	return strings.ReplaceAll(string(config), "/etc/batteryswap/mqtt", a.dir)
}
