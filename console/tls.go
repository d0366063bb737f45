package console

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	certFile   = "console.crt"
	keyFile    = "console.key"
	certLasts  = 825 * 24 * time.Hour // the longest that all browsers take
	certRenews = 30 * 24 * time.Hour
)

// certificate is nil where plain HTTP is served: on loopback, unless a certificate is configured.
func (s *Server) certificate(loopback bool) (*tls.Certificate, error) {
	if c := s.config.TLS; c.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("console.tls: %w", err)
		}
		return &cert, nil
	}
	if loopback {
		return nil, nil
	}
	if s.deps.DataDir == "" {
		return nil, errors.New("console.tls: a certificate of its own needs a data directory: name cert_file and key_file")
	}
	cert, key := filepath.Join(s.deps.DataDir, certFile), filepath.Join(s.deps.DataDir, keyFile)
	have, err := tls.LoadX509KeyPair(cert, key)
	if err == nil && time.Until(have.Leaf.NotAfter) > certRenews {
		return &have, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the console's own certificate: %w: remove %s and %s to have them made again", err, cert, key)
	}
	if err := selfSigned(cert, key, time.Now()); err != nil {
		return nil, fmt.Errorf("make the console's own certificate: %w", err)
	}
	have, err = tls.LoadX509KeyPair(cert, key)
	return &have, err
}

// selfSigned writes a certificate for this host's name and addresses. Nobody vouches for it: people compare its fingerprint once.
func selfSigned(cert, key string, now time.Time) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "wharfwatch"
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: host, Organization: []string{"wharfwatch, self-signed"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certLasts),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
		DNSNames: []string{host, "localhost"},
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			t.IPAddresses = append(t.IPAddresses, n.IP)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, private.Public(), private)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600),
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
}

// Fingerprint is the SHA-256 of the certificate as browsers show it; "" where plain HTTP is served. After Open.
func (s *Server) Fingerprint() string {
	if s.cert == nil {
		return ""
	}
	sum := sha256.Sum256(s.cert.Certificate[0])
	return fmt.Sprintf("%X", sum[:])
}
