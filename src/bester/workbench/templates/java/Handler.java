import java.io.IOException;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.ReadableByteChannel;
import java.nio.channels.SocketChannel;
import java.nio.channels.WritableByteChannel;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** A handler of the type mytype: it answers every message with the message's own data. */
final class Handler {
    static final String TYPE = System.getenv().getOrDefault("BESTER_TYPE", "mytype");
    static final int CONCURRENCY = 64;

    /**
     * Returns what is to be done with one message; many threads call it at once.
     *
     * The request's data is JSON as it came, which Json.members looks into, and request.from() is who sent it. Of an
     * exception the sender is told that there was one, and of new Refusal("mytype.soldOut", "sold out", true) what it says.
     */
    static Answer answer(Request request) throws Exception {
        return new Answer(List.of(Command.reply()), request.data());
    }

    public static void main(String[] args) throws InterruptedException {
        String address = System.getenv().getOrDefault("BESTER_HANDLERS", "besterHandlers");
        Service service = new Service(address, TYPE, CONCURRENCY, Handler::answer);
        Thread serving = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> { // on SIGTERM and SIGINT
            service.stop();
            try {
                serving.join();
            } catch (InterruptedException error) {
                throw new IllegalStateException(error);
            }
        }));
        service.serve();
    }
}

// ---- What follows attaches to a Bester server, and serves its requests (docs/protocol.md, sections 1 and 6). ----

/** Who sent a message, as the server knows it; what is not known is null. */
record Sender(String user, String server, boolean verified) {}

/**
 * One message.
 *
 * @param id the sender's own tag
 * @param data JSON as it came
 * @param scope "client", "server" or "handler"
 */
record Request(String type, String id, String data, Sender from, String scope) {}

/** One thing that is to be done with the answer's data (section 3.3), as JSON. */
record Command(String json) {
    static Command reply() {
        return new Command("{\"type\":\"reply\"}");
    }

    static Command sendClients(String... accounts) {
        return new Command("{\"type\":\"sendClients\",\"data\":" + Json.quote(accounts) + "}");
    }

    static Command sendServers(String... addresses) {
        return new Command("{\"type\":\"sendServers\",\"data\":" + Json.quote(addresses) + "}");
    }

    static Command sendHandler(String type) {
        return new Command("{\"type\":\"sendHandler\",\"data\":" + Json.quote(type) + "}");
    }
}

/** What is to be done with a message, without commands nothing; the data, JSON, is what they carry. */
record Answer(List<Command> commands, String data) {}

/** Why a message was not taken, as its sender is told; "temporary" says that the same message can succeed later. */
final class Refusal extends Exception {
    final String code;
    final boolean temporary;

    Refusal(String code, String message, boolean temporary) {
        super(Objects.requireNonNull(message));
        this.code = Objects.requireNonNull(code);
        this.temporary = temporary;
    }

    String json() {
        return "{\"code\":" + Json.quote(code) + ",\"message\":" + Json.quote(getMessage()) + ",\"temporary\":" + temporary + "}";
    }
}

/** Answers messages. */
interface Answerer {
    Answer answer(Request request) throws Exception;
}

/** Keeps a type attached: when the server goes away, it tries again until it is back. */
final class Service {
    private static final long FIRST_PAUSE_MS = 100;
    private static final long LONGEST_PAUSE_MS = 5000;

    private final String address;
    private final String type;
    private final int concurrency;
    private final Answerer answerer;
    private Attachment attachment;
    private boolean stopping;

    Service(String address, String type, int concurrency, Answerer answerer) {
        this.address = address;
        this.type = type;
        this.concurrency = concurrency;
        this.answerer = answerer;
    }

    /** Serves until stop() is called, and all that was outstanding then is answered. */
    void serve() throws InterruptedException {
        long pause = FIRST_PAUSE_MS;
        while (true) {
            String why = "the server closed the connection";
            try (SocketChannel channel = SocketChannel.open(UnixDomainSocketAddress.of(address))) {
                Attachment current = new Attachment(channel, concurrency, answerer);
                synchronized (this) {
                    if (stopping) return;
                    attachment = current;
                }
                current.run(type);
            } catch (IOException | IllegalArgumentException error) {
                why = String.valueOf(error.getMessage());
            }
            synchronized (this) {
                if (attachment != null && attachment.isAttached()) pause = FIRST_PAUSE_MS;
                attachment = null;
                if (stopping) return;
                System.err.println(address + ": " + why + "; trying again in " + pause + " ms");
                wait(pause);
                if (stopping) return;
            }
            pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
        }
    }

    /** Takes nothing new; any thread may call it. */
    synchronized void stop() {
        stopping = true;
        notifyAll();
        if (attachment != null) attachment.detach();
    }
}

/** One connection to the server. What was asked on it is never answered on another one. */
final class Attachment {
    private final SocketChannel channel;
    private final int concurrency;
    private final Answerer answerer;
    private final ExecutorService threads;
    private boolean attached;

    Attachment(SocketChannel channel, int concurrency, Answerer answerer) {
        this.channel = channel;
        this.concurrency = concurrency;
        this.answerer = answerer;
        threads = Executors.newFixedThreadPool(concurrency);
    }

    /** Serves until the connection is lost, which throws, or it was detached. */
    void run(String type) throws IOException, InterruptedException {
        try {
            String data = "{\"types\":[" + Json.quote(type) + "],\"concurrency\":" + concurrency + "}";
            send("{\"header\":{\"scope\":\"handler\"},\"payload\":{\"type\":\"attach\",\"id\":\"attach\",\"data\":" + data + "}}");
            while (true) {
                Map<String, String> message = Json.members(Frames.read(channel));
                Map<String, String> header = Json.members(message.getOrDefault("header", "{}"));
                Map<String, String> payload = Json.members(message.getOrDefault("payload", "{}"));
                String id = payload.getOrDefault("id", "\"\"");
                switch (Json.string(header.getOrDefault("messageType", "\"\""))) {
                    case "request" -> take(header, payload);
                    case "fatal" -> throw new IOException("the server ended the connection: " + payload.get("error"));
                    case "statusReport" -> {
                        boolean good = "\"good\"".equals(header.get("status"));
                        if (id.equals("\"attach\"") && !good) throw new IOException("not attached: " + payload.get("error"));
                        if (id.equals("\"attach\"")) setAttached();
                        if (id.equals("\"detach\"")) {
                            threads.shutdown(); // no requests come any more
                            threads.awaitTermination(Long.MAX_VALUE, TimeUnit.SECONDS);
                            return;
                        }
                    }
                    default -> {} // what is new in the protocol
                }
            }
        } finally {
            threads.shutdown();
        }
    }

    /** Asks for no new requests; those that come before the report are still answered. */
    synchronized void detach() {
        try {
            if (attached) send("{\"header\":{},\"payload\":{\"type\":\"detach\",\"id\":\"detach\"}}");
            else channel.close();
        } catch (IOException error) {
            // The connection is lost, which reading finds out.
        }
    }

    synchronized boolean isAttached() {
        return attached;
    }

    private synchronized void setAttached() {
        attached = true;
        System.out.println("attached");
    }

    private void take(Map<String, String> header, Map<String, String> payload) {
        Map<String, String> from = Json.members(header.getOrDefault("from", "{}"));
        Request request = new Request(
            Json.string(payload.getOrDefault("type", "\"\"")),
            Json.string(payload.getOrDefault("id", "\"\"")),
            payload.getOrDefault("data", "null"),
            new Sender(
                Json.string(from.getOrDefault("user", "null")),
                Json.string(from.getOrDefault("server", "null")),
                "true".equals(from.get("verified"))),
            Json.string(header.getOrDefault("scope", "\"\"")));
        String id = header.getOrDefault("id", "\"\"");
        threads.execute(() -> answer(id, request));
    }

    private void answer(String id, Request request) {
        String text;
        try {
            Answer answer = answerer.answer(request);
            String commands = answer.commands().stream().map(Command::json).collect(Collectors.joining(","));
            text = "\"status\":\"0\",\"commands\":[" + commands + "]},\"payload\":{\"data\":" + answer.data() + "}}";
        } catch (Refusal refusal) {
            text = "\"status\":\"1\",\"error\":" + refusal.json() + "}}";
        } catch (Throwable error) { // whatever it is, the sender waits
            System.err.println("not handled: " + error);
            text = "\"status\":\"1\"}}";
        }
        try {
            send("{\"header\":{\"id\":" + id + "," + text);
        } catch (IOException error) {
            // The connection is lost, which reading finds out.
        }
    }

    private void send(String text) throws IOException {
        synchronized (threads) {
            Frames.write(channel, text);
        }
    }
}

/** Frames: the length of a body in bytes, 4 bytes little endian, and then the body. */
final class Frames {
    /** What a server sends with its default limits, in bytes. */
    static final int MAX_BODY = 1024 * 1024 + 64 * 1024;

    /** Reads one body, however the stream was cut. */
    static String read(ReadableByteChannel from) throws IOException {
        int size = read(from, 4).order(ByteOrder.LITTLE_ENDIAN).getInt();
        if (size <= 0 || size > MAX_BODY) throw new IOException("a frame of " + Integer.toUnsignedString(size) + " bytes");
        return StandardCharsets.UTF_8.newDecoder().decode(read(from, size)).toString(); // throws if it is not UTF-8
    }

    private static ByteBuffer read(ReadableByteChannel from, int size) throws IOException {
        ByteBuffer buffer = ByteBuffer.allocate(size);
        while (buffer.hasRemaining()) {
            if (from.read(buffer) < 0) throw new IOException("the server closed the connection");
        }
        return buffer.flip();
    }

    static void write(WritableByteChannel to, String text) throws IOException {
        byte[] body = text.getBytes(StandardCharsets.UTF_8);
        ByteBuffer frame = ByteBuffer.allocate(4 + body.length).order(ByteOrder.LITTLE_ENDIAN);
        frame.putInt(body.length).put(body).flip();
        while (frame.hasRemaining()) to.write(frame);
    }
}

/**
 * As much of JSON as a handler needs: strict, and each value stays as its text stands. To pass a text on is quicker than to
 * write the value anew, and loses nothing. What is not of the form throws IllegalArgumentException.
 */
final class Json {
    private static final int MAX_DEPTH = 200; // levels of nesting; a server sends no more than 136
    private static final Pattern SCALAR = Pattern.compile("-?(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null");

    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    /** Returns the members of an object, each as its text stands there, and of a repeated key the last. */
    static Map<String, String> members(String object) {
        Json json = new Json(object);
        Map<String, String> members = new HashMap<>();
        json.object(1, members);
        json.space();
        if (json.at < object.length()) throw json.wrong();
        return members;
    }

    /** Returns the value of a string, or null of null. */
    static String string(String text) {
        if (text.equals("null")) return null;
        Json json = new Json(text);
        json.skipString();
        if (json.at < text.length() || text.charAt(0) != '"') throw json.wrong();
        StringBuilder value = new StringBuilder();
        for (int at = 1; at < text.length() - 1; at++) {
            char next = text.charAt(at);
            if (next == '\\') {
                next = text.charAt(++at);
                switch (next) {
                    case 'b' -> next = '\b';
                    case 'f' -> next = '\f';
                    case 'n' -> next = '\n';
                    case 'r' -> next = '\r';
                    case 't' -> next = '\t';
                    case 'u' -> {
                        next = (char) Integer.parseInt(text.substring(at + 1, at + 5), 16);
                        at += 4;
                    }
                    default -> {}
                }
            }
            value.append(next);
        }
        return value.toString();
    }

    /** Returns a text as a string of JSON. */
    static String quote(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (char next : text.toCharArray()) {
            if (next < ' ' || Character.isSurrogate(next)) quoted.append(String.format("\\u%04x", (int) next));
            else if (next == '"' || next == '\\') quoted.append('\\').append(next);
            else quoted.append(next);
        }
        return quoted.append('"').toString();
    }

    /** Returns texts as a list of JSON. */
    static String quote(String[] texts) {
        return Stream.of(texts).map(Json::quote).collect(Collectors.joining(",", "[", "]"));
    }

    private IllegalArgumentException wrong() {
        return new IllegalArgumentException("not of the form at character " + at + " of JSON");
    }

    private void space() {
        while (at < text.length() && " \t\n\r".indexOf(text.charAt(at)) >= 0) at++;
    }

    /** Takes this character, after white space, if it is the next one. */
    private boolean take(char wanted) {
        space();
        if (at >= text.length() || text.charAt(at) != wanted) return false;
        at++;
        return true;
    }

    private void expect(char wanted) {
        if (!take(wanted)) throw wrong();
    }

    /** Passes over a value, at this level of nesting. */
    private void skip(int depth) {
        space();
        char first = at < text.length() ? text.charAt(at) : 0;
        switch (first) {
            case '{' -> object(depth, null);
            case '[' -> skipArray(depth);
            case '"' -> skipString();
            default -> {
                Matcher scalar = SCALAR.matcher(text).region(at, text.length());
                if (!scalar.lookingAt()) throw wrong();
                at = scalar.end();
            }
        }
    }

    /** Passes over an object, and puts its members into the map, unless that is null. */
    private void object(int depth, Map<String, String> members) {
        expect('{');
        if (depth > MAX_DEPTH) throw wrong();
        if (take('}')) return;
        do {
            space();
            int start = at;
            skipString();
            String key = members == null ? null : string(text.substring(start, at));
            expect(':');
            space();
            start = at;
            skip(depth + 1);
            if (members != null) members.put(key, text.substring(start, at));
        } while (take(','));
        expect('}');
    }

    private void skipArray(int depth) {
        expect('[');
        if (depth > MAX_DEPTH) throw wrong();
        if (take(']')) return;
        do skip(depth + 1); while (take(','));
        expect(']');
    }

    private void skipString() {
        expect('"');
        while (at < text.length()) {
            char next = text.charAt(at++);
            if (next == '"') return;
            if (next < ' ') throw wrong();
            if (next != '\\') continue;
            char escaped = at < text.length() ? text.charAt(at++) : 0;
            if (escaped == 'u') {
                for (int end = at + 4; at < end; at++) {
                    if (at >= text.length() || "0123456789abcdefABCDEF".indexOf(text.charAt(at)) < 0) throw wrong();
                }
            } else if ("\"\\/bfnrt".indexOf(escaped) < 0) {
                throw wrong();
            }
        }
        throw wrong();
    }
}
