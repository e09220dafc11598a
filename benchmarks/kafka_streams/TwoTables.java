import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.math.MathContext;
import java.math.RoundingMode;
import java.nio.charset.StandardCharsets;
import java.util.Properties;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * The two-table fold on Kafka Streams: positions at average cost, and cash; one output for each trade.
 *
 * <p>Arguments: bootstrap servers, application id, source topic, output topic, state folder, commit interval in
 * milliseconds (0: the default). Exactly once (exactly_once_v2), RocksDB stores with changelogs and with the cache that
 * the DSL switches on by default; everything else as Kafka Streams ships. The outputs' bytes equal those of
 * benchmarks/two_tables.py: BigDecimal and Python's Decimal write numbers alike, and MATH is Python's default context.
 */
public final class TwoTables {
    private static final MathContext MATH = new MathContext(28, RoundingMode.HALF_EVEN);
    private static final int PLACES = 8;
    private static final String POSITIONS = "positions", CASH = "cash";

    public static void main(String[] arguments) {
        Properties config = new Properties();
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
        config.put(StreamsConfig.STATE_DIR_CONFIG, arguments[4]);
        config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        config.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        if (!arguments[5].equals("0")) {
            config.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, arguments[5]);
        }
        KafkaStreams streams = new KafkaStreams(topology(arguments[2], arguments[3]), config);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    private static Topology topology(String source, String output) {
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        Topology topology = new Topology();
        topology.addSource(Topology.AutoOffsetReset.EARLIEST, "trades", bytes, bytes, source);
        topology.addProcessor("fold", Fold::new, "trades");
        topology.addStateStore(store(POSITIONS), "fold");
        topology.addStateStore(store(CASH), "fold");
        topology.addSink("processed", output, new ByteArraySerializer(), new ByteArraySerializer(), "fold");
        return topology;
    }

    private static StoreBuilder<KeyValueStore<String, byte[]>> store(String name) {
        return Stores.keyValueStoreBuilder(
                Stores.persistentKeyValueStore(name), Serdes.String(), Serdes.ByteArray()).withCachingEnabled();
    }

    private static final class Fold implements Processor<byte[], byte[], byte[], byte[]> {
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<String, byte[]> positions;
        private KeyValueStore<String, byte[]> cash;

        @Override
        public void init(ProcessorContext<byte[], byte[]> given) {
            context = given;
            positions = given.getStateStore(POSITIONS);
            cash = given.getStateStore(CASH);
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            Trade trade = Trade.read(record.value());
            String key = trade.portfolio + "/" + trade.symbol;
            boolean buys = trade.side.equals("buy");
            BigDecimal amount = trade.quantity.multiply(trade.price, MATH);
            Position position = Position.read(positions.get(key))
                    .traded(buys ? trade.quantity : trade.quantity.negate(), trade.price);
            Cash balance = Cash.read(cash.get(trade.portfolio)).booked(buys ? amount.negate() : amount);
            positions.put(key, position.bytes());
            cash.put(trade.portfolio, balance.bytes());
            RecordMetadata source = context.recordMetadata().orElseThrow();
            context.forward(record.withValue(output(trade, position, balance, source)));
        }

        private static byte[] output(Trade trade, Position position, Cash cash, RecordMetadata source) {
            return bytes("{\"event_id\":\"" + trade.event + "\",\"portfolio_id\":\"" + trade.portfolio
                    + "\",\"sequence\":" + cash.sequence + ",\"symbol\":\"" + trade.symbol + "\",\"position\":[\""
                    + position.quantity + "\",\"" + position.averageCost + "\",\"" + position.realised
                    + "\"],\"balance\":\"" + cash.balance + "\",\"source\":[" + source.partition() + ","
                    + source.offset() + "]}");
        }
    }

    private static final class Trade {
        private static final JsonFactory JSON = new JsonFactory();
        private String event, portfolio, side, symbol;
        private BigDecimal quantity, price;

        static Trade read(byte[] value) {
            Trade trade = new Trade();
            try (JsonParser parser = JSON.createParser(value)) {
                parser.nextToken();
                while (parser.nextToken() == JsonToken.FIELD_NAME) {
                    String name = parser.currentName();
                    String text = parser.nextTextValue();
                    switch (name) {
                        case "event_id": trade.event = text; break;
                        case "portfolio_id": trade.portfolio = text; break;
                        case "side": trade.side = text; break;
                        case "symbol": trade.symbol = text; break;
                        case "quantity": trade.quantity = new BigDecimal(text); break;
                        case "price": trade.price = new BigDecimal(text); break;
                        default: break;
                    }
                }
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
            return trade;
        }
    }

    private static final class Position {
        private static final Position FLAT = new Position(BigDecimal.ZERO, BigDecimal.ZERO, BigDecimal.ZERO);
        private final BigDecimal quantity, averageCost, realised;

        Position(BigDecimal quantity, BigDecimal averageCost, BigDecimal realised) {
            this.quantity = quantity;
            this.averageCost = averageCost;
            this.realised = realised;
        }

        static Position read(byte[] value) {
            if (value == null) {
                return FLAT;
            }
            String[] parts = text(value).split("\\|");
            return new Position(new BigDecimal(parts[0]), new BigDecimal(parts[1]), new BigDecimal(parts[2]));
        }

        byte[] bytes() {
            return TwoTables.bytes(quantity + "|" + averageCost + "|" + realised);
        }

        Position traded(BigDecimal change, BigDecimal price) {
            BigDecimal held = quantity.add(change, MATH);
            if (quantity.signum() == 0 || quantity.signum() == change.signum()) {
                BigDecimal cost = quantity.multiply(averageCost, MATH).add(change.multiply(price, MATH), MATH);
                return new Position(held, places(cost.divide(held, MATH)), realised);
            }
            boolean isThrough = change.abs().compareTo(quantity.abs()) > 0;
            BigDecimal closed = isThrough ? quantity : change.negate();
            BigDecimal profit = places(closed.multiply(price.subtract(averageCost, MATH), MATH));
            BigDecimal cost = held.signum() == 0 ? BigDecimal.ZERO : isThrough ? price : averageCost;
            return new Position(held, cost, realised.add(profit, MATH));
        }
    }

    private static final class Cash {
        private static final Cash NONE = new Cash(0, BigDecimal.ZERO);
        private final long sequence;
        private final BigDecimal balance;

        Cash(long sequence, BigDecimal balance) {
            this.sequence = sequence;
            this.balance = balance;
        }

        static Cash read(byte[] value) {
            if (value == null) {
                return NONE;
            }
            String[] parts = text(value).split("\\|");
            return new Cash(Long.parseLong(parts[0]), new BigDecimal(parts[1]));
        }

        byte[] bytes() {
            return TwoTables.bytes(sequence + "|" + balance);
        }

        Cash booked(BigDecimal amount) {
            return new Cash(sequence + 1, balance.add(amount, MATH));
        }
    }

    private static BigDecimal places(BigDecimal value) {
        return value.setScale(PLACES, RoundingMode.HALF_EVEN);
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(byte[] value) {
        return new String(value, StandardCharsets.UTF_8);
    }
}
