package bench;

import io.github.resilience4j.circuitbreaker.CircuitBreaker;
import io.github.resilience4j.circuitbreaker.CircuitBreakerConfig;
import io.github.resilience4j.circuitbreaker.CircuitBreakerConfig.SlidingWindowType;
import java.time.Duration;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Threads;

/** resilience4j with the thresholds of our default: half of at least 20 calls in 30 seconds, slow from 5 seconds on. */
@State(Scope.Benchmark)
public class Breaker {
  private CircuitBreaker closed;
  private CircuitBreaker open;

  @Setup
  public void build() {
    CircuitBreakerConfig settings =
        CircuitBreakerConfig.custom()
            .slidingWindowType(SlidingWindowType.TIME_BASED)
            .slidingWindowSize(30)
            .minimumNumberOfCalls(20)
            .failureRateThreshold(50)
            .slowCallDurationThreshold(Duration.ofSeconds(5))
            .waitDurationInOpenState(Duration.ofHours(1))
            .build();
    closed = CircuitBreaker.of("closed", settings);
    open = CircuitBreaker.of("open", settings);
    open.transitionToOpenState();
  }

  /** Permission and outcome, as our bench does it and its decorators do around a supplier. */
  private static boolean call(CircuitBreaker breaker) {
    if (!breaker.tryAcquirePermission()) {
      return false;
    }
    long began = breaker.getCurrentTimestamp();
    breaker.onSuccess(breaker.getCurrentTimestamp() - began, breaker.getTimestampUnit());
    return true;
  }

  @Benchmark
  public boolean closed() {
    return call(closed);
  }

  @Benchmark
  public boolean open() {
    return call(open);
  }

  @Benchmark
  @Threads(2)
  public boolean twoThreads() {
    return call(closed);
  }
}
