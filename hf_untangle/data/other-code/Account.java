package bank;

import java.math.BigDecimal;
import java.math.RoundingMode;
import java.time.Clock;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Objects;

/** An account that never goes below its limit and remembers every booking. */
public final class Account {

    /** One booking; a withdrawal is negative. */
    public record Booking(Instant at, BigDecimal amount, String purpose) {}

    public static class OverdrawnException extends RuntimeException {
        OverdrawnException(String number, BigDecimal missing) {
            super("account " + number + " lacks " + missing);
        }
    }

    private final String number;
    private final BigDecimal limit;
    private final Clock clock;
    private final List<Booking> bookings = new ArrayList<>();

    public Account(String number, BigDecimal limit, Clock clock) {
        this.number = Objects.requireNonNull(number);
        this.limit = limit.negate();
        this.clock = clock;
    }

    public synchronized BigDecimal balance() {
        return bookings.stream()
                .map(Booking::amount)
                .reduce(BigDecimal.ZERO, BigDecimal::add)
                .setScale(2, RoundingMode.HALF_EVEN);
    }

    public void deposit(BigDecimal amount, String purpose) {
        requirePositive(amount);
        book(amount, purpose);
    }

    public synchronized void withdraw(BigDecimal amount, String purpose) {
        requirePositive(amount);
        BigDecimal left = balance().subtract(amount);
        if (left.compareTo(limit) < 0) {
            throw new OverdrawnException(number, limit.subtract(left));
        }
        book(amount.negate(), purpose);
    }

    public static void transfer(Account from, Account to, BigDecimal amount) {
        // Always lock in the same order, so that two transfers never wait for each other.
        Account first = from.number.compareTo(to.number) < 0 ? from : to;
        Account second = first == from ? to : from;
        synchronized (first) {
            synchronized (second) {
                from.withdraw(amount, "to " + to.number);
                to.deposit(amount, "from " + from.number);
            }
        }
    }

    public List<Booking> history() {
        return Collections.unmodifiableList(bookings);
    }

    private synchronized void book(BigDecimal amount, String purpose) {
        bookings.add(new Booking(clock.instant(), amount, purpose));
    }

    private static void requirePositive(BigDecimal amount) {
        if (amount.signum() <= 0) {
            throw new IllegalArgumentException("amount must be positive: " + amount);
        }
    }
}
