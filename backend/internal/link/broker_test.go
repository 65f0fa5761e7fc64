package link

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// broker is a real mosquitto on a port of its own.
type broker struct {
	t    *testing.T
	conf string
	port int
	cmd  *exec.Cmd
	log  bytes.Buffer
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// newBroker starts mosquitto with lines of configuration; PORT stands for the
// port.
func newBroker(t *testing.T, conf string) *broker {
	t.Helper()
	b := &broker{t: t, conf: filepath.Join(t.TempDir(), "mosquitto.conf"), port: freePort(t)}
	conf = strings.ReplaceAll(conf, "PORT", fmt.Sprint(b.port)) + "\nuser " + os.Getenv("USER") + "\n"
	if os.Getuid() == 0 {
		conf = strings.ReplaceAll(conf, "\nuser "+os.Getenv("USER")+"\n", "\nuser root\n")
	}
	require.NoError(t, os.WriteFile(b.conf, []byte(conf), 0o600))
	b.start()
	t.Cleanup(b.stop)
	return b
}

func newOpenBroker(t *testing.T) *broker {
	return newBroker(t, "listener PORT 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 100000\nmax_inflight_messages 0")
}

func (b *broker) start() {
	b.t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // not on every user's path
	}
	b.cmd = exec.Command(path, "-c", b.conf)
	b.cmd.Stderr = &b.log
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(b.t, b.cmd.Start(), "install mosquitto: apt-get install mosquitto")
	require.Eventually(b.t, func() bool {
		c, err := net.Dial("tcp", b.address())
		if err == nil {
			c.Close()
		}
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
}

func (b *broker) stop() {
	if b.cmd == nil {
		return
	}
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait() // killed: the error says so
	b.cmd = nil
	if b.t.Failed() {
		b.t.Log(b.log.String())
	}
}

func (b *broker) address() string { return fmt.Sprintf("127.0.0.1:%d", b.port) }

func (b *broker) url(scheme string) *url.URL { return &url.URL{Scheme: scheme, Host: b.address()} }

// authority signs Ed25519 certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  ed25519.PrivateKey
	n    int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir(), n: 1}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.key = key
	a.write("ca.crt", "CERTIFICATE", der)
	a.revoke()
	return a
}

func (a *authority) write(name, kind string, der []byte) string {
	path := filepath.Join(a.dir, name)
	require.NoError(a.t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

// revoke writes the list of revoked certificates.
func (a *authority) revoke(serials ...*big.Int) {
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, n := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	require.NoError(a.t, err)
	a.write("ca.crl", "X509 CRL", der)
}

// issue makes a certificate for a name and returns what a client needs.
func (a *authority) issue(name string) *tls.Config {
	a.t.Helper()
	a.n++
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(a.t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(a.n), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, a.cert, pub, a.key)
	require.NoError(a.t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(a.t, err)
	pair, err := tls.LoadX509KeyPair(a.write(name+".crt", "CERTIFICATE", der), a.write(name+".key", "PRIVATE KEY", pkcs8))
	require.NoError(a.t, err)
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "127.0.0.1", Certificates: []tls.Certificate{pair}}
}

// packaged is the shipped configuration with our paths.
func packaged(t *testing.T, a *authority) string {
	t.Helper()
	conf, err := os.ReadFile("../../packaging/mosquitto.conf")
	require.NoError(t, err)
	acl, err := os.ReadFile("../../packaging/mosquitto.acl")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(a.dir, "mosquitto.acl"), acl, 0o600))
	s := strings.ReplaceAll(string(conf), "/etc/batteryswap/mqtt/", a.dir+"/")
	return strings.Replace(s, "listener 8883", "listener PORT 127.0.0.1", 1)
}

func stopLink(t *testing.T, l *Link) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	l.Stop(ctx)
}
