package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"valerix.io/cluster/internal/address"
	"valerix.io/cluster/internal/config"
	"valerix.io/cluster/internal/layout"
	"valerix.io/cluster/internal/pki"
)

// gates answer whether what a component needs is there yet.
type gates struct {
	client *http.Client
	server string
}

// probeLimit bounds one question.
const probeLimit = 2 * time.Second

func newGates(plan address.Plan) (*gates, error) {
	authority, err := os.ReadFile(layout.Inside + "/pki/" + pki.ClusterAuthority + ".crt")
	if err != nil {
		return nil, fmt.Errorf("failed to read the cluster's authority: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	return &gates{
		server: plan.Server(),
		client: &http.Client{
			Timeout: probeLimit,
			Transport: &http.Transport{
				TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
				// A gate is asked a few dozen times in the life of a node.
				DisableKeepAlives: true,
			},
		},
	}, nil
}

func (g *gates) of(need config.Need) func(context.Context) error {
	switch need {
	case config.NeedEtcd:
		return g.etcd
	case config.NeedAPI:
		return g.api
	case config.NeedAPIAndRuntime:
		return func(ctx context.Context) error { return errors.Join(g.runtime(ctx), g.api(ctx)) }
	}
	return nil
}

func (g *gates) etcd(ctx context.Context) error { return dial(ctx, "tcp", "127.0.0.1:2379") }

func (g *gates) runtime(ctx context.Context) error {
	return dial(ctx, "unix", config.ContainerdSocket)
}

func (g *gates) api(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, g.server+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := g.client.Do(request)
	if err != nil {
		return fmt.Errorf("the API server does not answer: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the API server is not ready: %s", response.Status)
	}
	return nil
}

func dial(ctx context.Context, network, address string) error {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	connection, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	return connection.Close()
}
