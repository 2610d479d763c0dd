// A service that knows nothing of Valerix but one address in its environment. /order asks the ledger and answers as it
// did; everything else is answered at once.

import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.concurrent.Executors;

public class Server {
    static final String LEDGER = System.getenv().getOrDefault("VALERIX_TARGET_LEDGER_URL", "http://ledger");
    static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    static int charge() throws InterruptedException {
        var request = HttpRequest.newBuilder(URI.create(LEDGER + "/charge")).timeout(Duration.ofSeconds(10)).build();
        try {
            return CLIENT.send(request, HttpResponse.BodyHandlers.discarding()).statusCode();
        } catch (IOException error) {
            return 502;
        }
    }

    public static void main(String[] arguments) throws IOException {
        var server = HttpServer.create(new InetSocketAddress("0.0.0.0", 8080), 0);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", exchange -> {
            try {
                var status = exchange.getRequestURI().getPath().equals("/order") ? charge() : 200;
                var body = (status + "\n").getBytes();
                exchange.sendResponseHeaders(status, body.length);
                exchange.getResponseBody().write(body);
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
            } finally {
                exchange.close();
            }
        });
        server.start();
    }
}
