// Runs a Debezium connector inside this process and writes what Kafka Connect would send to Kafka, a JSON line a record.
//
//     java -cp JARS Records.java CONNECTOR.properties OUT.jsonl
//
// Keys, values and headers go through the converters that the properties name, as they would in Kafka Connect; bytes are
// written in base64, null as null. SIGTERM ends it after its position is written.

import com.fasterxml.jackson.databind.ObjectMapper;
import io.debezium.embedded.Connect;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.RecordChangeEvent;
import io.debezium.engine.format.ChangeEventFormat;
import java.io.BufferedWriter;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.connect.header.Header;
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.storage.Converter;
import org.apache.kafka.connect.storage.HeaderConverter;

public class Records {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final CountDownLatch ENDED = new CountDownLatch(1);
    private static volatile int code = 0;

    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        try (Reader in = Files.newBufferedReader(Path.of(args[0]))) {
            properties.load(in);
        }
        Converter keys = converter(properties, "key.converter", true);
        Converter values = converter(properties, "value.converter", false);
        HeaderConverter headers = made(properties.getProperty("header.converter"), HeaderConverter.class);
        headers.configure(Map.of("converter.type", "header"));
        BufferedWriter out = Files.newBufferedWriter(
                Path.of(args[1]), StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        DebeziumEngine<RecordChangeEvent<SourceRecord>> engine =
                DebeziumEngine.create(ChangeEventFormat.of(Connect.class))
                        .using(properties)
                        .using((success, message, error) -> {
                            if (!success) {
                                System.err.println(message);
                                if (error != null) {
                                    error.printStackTrace();
                                }
                                code = 1;
                            }
                        })
                        .notifying((records, committer) -> {
                            for (RecordChangeEvent<SourceRecord> event : records) {
                                write(out, event.record(), keys, values, headers);
                                committer.markProcessed(event);
                            }
                            flush(out);
                            committer.markBatchFinished();
                        })
                        .build();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> close(engine)));
        engine.run();
        ENDED.countDown();
        System.exit(code);
    }

    private static void close(DebeziumEngine<?> engine) {
        try {
            engine.close();
            ENDED.await(10, TimeUnit.SECONDS);
        } catch (Exception why) {
            // it has ended by itself
        }
    }

    private static void write(
            BufferedWriter out, SourceRecord record, Converter keys, Converter values, HeaderConverter headers) {
        Map<String, Object> line = new LinkedHashMap<>();
        String topic = record.topic();
        line.put("topic", topic);
        line.put("key", keys.fromConnectData(topic, record.keySchema(), record.key()));
        line.put("value", values.fromConnectData(topic, record.valueSchema(), record.value()));
        List<List<Object>> pairs = new ArrayList<>();
        for (Header header : record.headers()) {
            byte[] bytes = headers.fromConnectHeader(topic, header.key(), header.schema(), header.value());
            pairs.add(java.util.Arrays.asList(
                    header.key(), bytes == null ? null : Base64.getEncoder().encodeToString(bytes)));
        }
        line.put("headers", pairs);
        try {
            out.write(JSON.writeValueAsString(line)); // byte[] is written in base64
            out.newLine();
        } catch (java.io.IOException why) {
            throw new java.io.UncheckedIOException(why);
        }
    }

    private static void flush(BufferedWriter out) {
        try {
            out.flush();
        } catch (java.io.IOException why) {
            throw new java.io.UncheckedIOException(why);
        }
    }

    private static Converter converter(Properties properties, String name, boolean isKey) throws Exception {
        Converter made = made(properties.getProperty(name), Converter.class);
        Map<String, Object> own = new HashMap<>();
        for (String key : properties.stringPropertyNames()) {
            if (key.startsWith(name + ".")) {
                own.put(key.substring(name.length() + 1), properties.getProperty(key));
            }
        }
        made.configure(own, isKey);
        return made;
    }

    private static <T> T made(String name, Class<T> kind) throws Exception {
        return kind.cast(Class.forName(name).getDeclaredConstructor().newInstance());
    }
}
