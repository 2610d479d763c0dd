// Package pki makes the certificates of a cluster: who signs whom is written down once, in Issue.
//
// The three authorities and the key of the service accounts live as long as the cluster. Every other certificate is
// issued anew whenever a node starts, so none is ever too old and each follows a change of addresses.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

const (
	authorityLife   = 10 * 365 * 24 * time.Hour
	certificateLife = 365 * 24 * time.Hour
	// Clocks of virtual machines jump back when they resume.
	clockTolerance = time.Hour
)

// Names of the authorities, each a pair of files NAME.crt and NAME.key.
const (
	ClusterAuthority = "ca"
	EtcdAuthority    = "etcd-ca"        // Apart, because whoever the cluster authority signs must not read etcd.
	FrontAuthority   = "front-proxy-ca" // Apart, because it vouches for users by request header.
	// ServiceAccountKey signs the tokens of service accounts.
	ServiceAccountKey = "service-account"
)

// Certificate is what one party shows to the others.
type Certificate struct {
	File         string // Name of its pair of files.
	Authority    string
	CommonName   string   // The user name, where it is shown to the API server.
	Organization string   // The group.
	DNS          []string // Names under which it serves, if it serves.
	Addresses    []netip.Addr
}

// Issue makes every authority that is missing and all of the certificates in dir.
func Issue(dir string, certificates []Certificate, now time.Time) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("failed to make the certificate folder: %w", err)
	}
	authorities := map[string]*authority{}
	for _, name := range []string{ClusterAuthority, EtcdAuthority, FrontAuthority} {
		loaded, err := loadAuthority(dir, name)
		if errors.Is(err, fs.ErrNotExist) {
			loaded, err = newAuthority(dir, name, now)
		}
		if err != nil {
			return fmt.Errorf("failed to prepare the authority %s: %w", name, err)
		}
		authorities[name] = loaded
	}
	if err := ensureServiceAccountKey(dir); err != nil {
		return fmt.Errorf("failed to prepare the key of the service accounts: %w", err)
	}
	for _, certificate := range certificates {
		signer, known := authorities[certificate.Authority]
		if !known {
			return fmt.Errorf("certificate %s names the unknown authority %q", certificate.File, certificate.Authority)
		}
		if err := signer.issue(dir, certificate, now); err != nil {
			return fmt.Errorf("failed to issue the certificate %s: %w", certificate.File, err)
		}
	}
	return nil
}

type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(dir, name string, now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "valerix-" + name},
		NotBefore:             now.Add(-clockTolerance),
		NotAfter:              now.Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	// The key is written first: a pair is looked up by its certificate, so half a pair is made anew.
	if err := writeKey(filepath.Join(dir, name+".key"), key); err != nil {
		return nil, err
	}
	return &authority{certificate, key}, writePEM(filepath.Join(dir, name+".crt"), "CERTIFICATE", der)
}

func loadAuthority(dir, name string) (*authority, error) {
	der, err := readPEM(filepath.Join(dir, name+".crt"))
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	der, err = readPEM(filepath.Join(dir, name+".key"))
	if err != nil {
		return nil, err
	}
	key, err := x509.ParseECPrivateKey(der)
	return &authority{certificate, key}, err
}

func (a *authority) issue(dir string, certificate Certificate, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: certificate.CommonName},
		NotBefore:    now.Add(-clockTolerance),
		NotAfter:     now.Add(certificateLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		DNSNames:     certificate.DNS,
	}
	if certificate.Organization != "" {
		template.Subject.Organization = []string{certificate.Organization}
	}
	for _, address := range certificate.Addresses {
		template.IPAddresses = append(template.IPAddresses, net.IP(address.AsSlice()))
	}
	if len(certificate.DNS)+len(certificate.Addresses) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return err
	}
	if err := writeKey(filepath.Join(dir, certificate.File+".key"), key); err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, certificate.File+".crt"), "CERTIFICATE", der)
}

func ensureServiceAccountKey(dir string) error {
	private, public := filepath.Join(dir, ServiceAccountKey+".key"), filepath.Join(dir, ServiceAccountKey+".pub")
	if _, err := os.Stat(public); err == nil {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := writeKey(private, key); err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return writePEM(public, "PUBLIC KEY", der)
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, "EC PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

func readPEM(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block", path)
	}
	return block.Bytes, nil
}
