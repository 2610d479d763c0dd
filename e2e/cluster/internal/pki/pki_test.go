package pki

import (
	"bytes"
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	server = Certificate{
		File: "apiserver", Authority: ClusterAuthority, CommonName: "kube-apiserver",
		DNS: []string{"kubernetes.default.svc"}, Addresses: []netip.Addr{netip.MustParseAddr("10.201.1.2")},
	}
	admin = Certificate{File: "admin", Authority: ClusterAuthority, CommonName: "admin", Organization: "system:masters"}
	now   = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

func issued(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	der, err := readPEM(filepath.Join(dir, name+".crt"))
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func verify(t *testing.T, dir, name, authority string, usage x509.ExtKeyUsage, host string) error {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(issued(t, dir, authority))
	_, err := issued(t, dir, name).Verify(x509.VerifyOptions{
		Roots: roots, DNSName: host, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	return err
}

func TestServerIsTrustedUnderItsNamesOnly(t *testing.T) {
	dir := t.TempDir()
	if err := Issue(dir, []Certificate{server, admin}, now); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"kubernetes.default.svc", "10.201.1.2"} {
		if err := verify(t, dir, "apiserver", ClusterAuthority, x509.ExtKeyUsageServerAuth, host); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if verify(t, dir, "apiserver", ClusterAuthority, x509.ExtKeyUsageServerAuth, "10.201.1.3") == nil {
		t.Error("the server is trusted under an address that it does not have")
	}
	if verify(t, dir, "apiserver", EtcdAuthority, x509.ExtKeyUsageServerAuth, "10.201.1.2") == nil {
		t.Error("the authority of etcd vouches for the API server")
	}
}

func TestClientCannotServe(t *testing.T) {
	dir := t.TempDir()
	if err := Issue(dir, []Certificate{admin}, now); err != nil {
		t.Fatal(err)
	}
	if err := verify(t, dir, "admin", ClusterAuthority, x509.ExtKeyUsageClientAuth, ""); err != nil {
		t.Error(err)
	}
	if verify(t, dir, "admin", ClusterAuthority, x509.ExtKeyUsageServerAuth, "") == nil {
		t.Error("a client's certificate can serve")
	}
	if groups := issued(t, dir, "admin").Subject.Organization; len(groups) != 1 || groups[0] != "system:masters" {
		t.Errorf("groups are %v", groups)
	}
}

func TestAuthoritiesStayAndCertificatesAreRenewed(t *testing.T) {
	dir := t.TempDir()
	read := func(name string) []byte {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	if err := Issue(dir, []Certificate{admin}, now); err != nil {
		t.Fatal(err)
	}
	authority, tokens, certificate := read("ca.crt"), read("service-account.pub"), read("admin.crt")
	if err := Issue(dir, []Certificate{admin}, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(authority, read("ca.crt")) || !bytes.Equal(tokens, read("service-account.pub")) {
		t.Error("the authority or the service account key changed: every client and token out there is void")
	}
	if bytes.Equal(certificate, read("admin.crt")) {
		t.Error("the certificate was not renewed")
	}
}

func TestEveryFileIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	if err := Issue(dir, []Certificate{server}, now); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3*2+2+2 {
		t.Fatalf("%d files, %v; want three authorities, one key pair and one certificate", len(entries), err)
	}
	for _, entry := range entries {
		if info, _ := entry.Info(); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", entry.Name(), info.Mode())
		}
	}
}

func TestUnknownAuthorityIsNamed(t *testing.T) {
	err := Issue(t.TempDir(), []Certificate{{File: "x", Authority: "nobody"}}, now)
	if err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("got %v", err)
	}
}
